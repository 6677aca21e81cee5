// Charts, drawn as plain SVG from the raw data of a result file. They follow the reader's colour scheme.
// Each label is clear without the others, because rows are sorted by their values. The best entry of ringbell and the two
// strongest rivals are emphasized; the others are pale. Every round is a dot, filled or open by the distance of the cores
// (harness/distance.mjs): a virtual machine whose cores are moved has two speeds, and one median hides one of them. So the medians of
// both are written beside it.

import { DISTANCES } from './distance.mjs'
import { duration, number } from './table.mjs'
import { median, series, summary } from './statistics.mjs'

const WIDTH = 760
const FONT = 'font-family="system-ui, sans-serif"'
const STYLE = `<style>
  .ground { fill: #ffffff } .text { fill: #1f2328 } .soft { fill: #656d76 } .grid { stroke: #d0d7de }
  .ringbell { fill: #0969da } .rival { fill: #8c959f } .floor { fill: #d8b4fe } .round { fill: #1f2328 }
  .round.far { fill: none; stroke: #1f2328 }
  .pale { opacity: 0.4 } .line { fill: none; stroke-width: 3 } .line.pale { stroke-width: 1.2; opacity: 0.6 }
  .line.ringbell { stroke: #0969da } .line.rival { stroke: #59636e } .line.floor { stroke: #a475f9 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .text { fill: #e6edf3 } .soft { fill: #8d96a0 } .grid { stroke: #30363d }
    .ringbell { fill: #4493f8 } .rival { fill: #8d96a0 } .floor { fill: #8957e5 } .round { fill: #e6edf3 } .round.far { stroke: #e6edf3 }
    .line.ringbell { stroke: #4493f8 } .line.rival { stroke: #9198a1 } .line.floor { stroke: #8957e5 }
  }
</style>`

const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.codePointAt(0)};`)

function frame(height, title, subtitle, body, foot) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}" ${FONT}>
${STYLE}
<rect class="ground" width="${WIDTH}" height="${height}" rx="8"/>
<text class="text" x="20" y="32" font-size="17" font-weight="600">${escape(title)}</text>
<text class="soft" x="20" y="52" font-size="12">${escape(subtitle)}</text>
${body}
<text class="soft" x="20" y="${height - 14}" font-size="11">${escape(foot)}</text>
</svg>
`
}

/** The best entry of ringbell and the two strongest rivals. `rows` have the best first. Entries `beside` only serve for comparison. */
function strong(rows) {
  const best = (kind, count) => rows.filter((one) => one.kind === kind && !one.beside).slice(0, count)
  return new Set([...best('ringbell', 1), ...best('rival', 2)])
}

/** Horizontal bars of medians, the best first, with a dot for each round. */
function bars({ title, subtitle, foot, rows, format, logarithmic = false }) {
  const left = 290
  const right = WIDTH - (rows.some(({ apart }) => apart) ? 210 : 90)
  const top = 72
  const step = 26
  const most = Math.max(...rows.map((one) => one.value.high))
  const least = Math.min(...rows.map((one) => one.value.low)) / 2
  const x = (value) =>
    logarithmic
      ? left + ((Math.log(value) - Math.log(least)) / (Math.log(most) - Math.log(least))) * (right - left)
      : left + (value / most) * (right - left)
  const drawnStrong = strong(rows)
  const body = rows.map((one, i) => {
    const { name, kind, value, rounds, apart } = one
    const y = top + i * step
    const shown = drawnStrong.has(one) ? kind : `${kind} pale`
    const dots = rounds.map(
      (round) =>
        `<circle class="${['round', round.distance].filter(Boolean).join(' ')}" cx="${x(round.value).toFixed(1)}" cy="${y + 9}" r="2"/>`,
    )
    return `<text class="text" x="${left - 10}" y="${y + 13}" font-size="12.5" text-anchor="end"${drawnStrong.has(one) ? ' font-weight="600"' : ''}>${escape(name)}</text>
<rect class="${shown}" x="${left}" y="${y}" width="${Math.max(1, x(value.median) - left).toFixed(1)}" height="18" rx="2"/>
${dots.join('')}
<text class="text" x="${(Math.max(x(value.high), x(value.median)) + 8).toFixed(1)}" y="${y + 13}" font-size="12.5">${escape(format(value.median))}${apart ? `<tspan class="soft" font-size="10" dx="6">${escape(apart(format))}</tspan>` : ''}</text>`
  })
  return frame(top + rows.length * step + 36, title, subtitle, body.join('\n'), foot)
}

/** Lines over message sizes, both axes logarithmic. */
function lines({ title, subtitle, foot, labels, rows, format }) {
  const left = 90
  const right = WIDTH - 280
  const top = 76
  const bottom = 380
  const values = rows.flatMap((line) => line.points.filter(Boolean))
  const most = Math.log(Math.max(...values))
  const least = Math.log(Math.min(...values))
  const x = (i) => left + (i / (labels.length - 1)) * (right - left)
  const y = (value) => bottom - ((Math.log(value) - least) / (most - least)) * (bottom - top)
  const last = (line) => line.points.findLast(Boolean)
  const drawnStrong = strong(rows.toSorted((one, other) => last(other) - last(one)))
  const parts = labels.map(
    (label, i) => `<line class="grid" x1="${x(i)}" x2="${x(i)}" y1="${top}" y2="${bottom}"/>
<text class="soft" x="${x(i)}" y="${bottom + 18}" font-size="12" text-anchor="middle">${escape(label)}</text>`,
  )
  for (let power = Math.ceil(least / Math.LN10); power <= Math.floor(most / Math.LN10); power++) {
    const at = y(10 ** power).toFixed(1)
    parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${at}" y2="${at}"/>
<text class="soft" x="${left - 8}" y="${Number(at) + 4}" font-size="12" text-anchor="end">${escape(format(10 ** power))}</text>`)
  }
  const ends = rows.map((line) => ({ line, y: y(last(line)) })).sort((a, b) => a.y - b.y)
  ends.forEach((end, i) => (end.label = i ? Math.max(end.y, ends[i - 1].label + 16) : end.y))
  // The emphasized ones come last, so that they are drawn over the pale ones.
  ends.sort((a, b) => Number(drawnStrong.has(a.line)) - Number(drawnStrong.has(b.line)))
  for (const { line, label } of ends) {
    const isStrong = drawnStrong.has(line)
    const points = line.points.map((value, i) => value && `${x(i).toFixed(1)},${y(value).toFixed(1)}`).filter(Boolean)
    const dash = line.kind === 'floor' ? ' stroke-dasharray="5 4"' : ''
    parts.push(`<polyline class="line ${line.kind}${isStrong ? '' : ' pale'}" points="${points.join(' ')}"${dash}/>
<text class="${isStrong ? 'text' : 'soft'}" x="${right + 10}" y="${(label + 4).toFixed(1)}" font-size="12"${isStrong ? ' font-weight="600"' : ''}>${escape(line.name)}</text>`)
  }
  return frame(bottom + 60, title, subtitle, parts.join('\n'), foot)
}

/** Says the medians near and far, where there are both. */
function mediansApart(rounds) {
  const sides = DISTANCES.map((distance) => rounds.filter((round) => round.distance === distance))
  if (sides.some((side) => side.length === 0)) return undefined
  const medians = sides.map((side) => median(side.map(({ value }) => value)))
  return (format) => medians.map((value, at) => `${DISTANCES[at]} ${format(value)}`).join(', ')
}

function row(entry, metric, name = entry.name) {
  const rounds = series(entry, metric)
    .map((value, round) => ({ value, distance: entry.rounds[round]?.distance }))
    .filter(({ value }) => Number.isFinite(value))
  if (rounds.length === 0 || entry.error) return undefined
  const beside = entry.name.startsWith('topic ')
  const values = rounds.map(({ value }) => value)
  return { name, kind: entry.kind, beside, value: summary(values), rounds, apart: mediansApart(rounds) }
}

/** One direction. The label of each entry, clear without the other rows. */
const LABELS = {
  'zeromq push/pull': 'zeromq.js PUSH/PULL',
  'zeromq pub/sub': 'zeromq.js PUB/SUB',
  'socket naive': 'Unix socket, one write a message',
  'socket batched': 'Unix socket, batched by hand',
  'socket in place': 'Unix socket, batched by hand, read in place',
  'fork ipc': 'child_process IPC, advanced',
  'worker postMessage': 'worker_threads postMessage',
  'worker shared ring': 'worker_threads, ring in SharedArrayBuffer',
  'bun socket batched': "Bun's net, batched by hand",
  'bun socket in place': "Bun's net, batched by hand, read in place",
  'ringbell batch+lease': 'ringbell, batch writer, lease',
  'ringbell batch+owned': 'ringbell, batch writer, owned batches',
  'memcpy, one core, hot': 'floor: memcpy on one core',
}

const TRIPS = {
  'ringbell adaptive': 'ringbell, listen',
  'ringbell adaptive+for-await': 'ringbell, for await',
  'ringbell spin': 'ringbell, listen, spinning',
  'ringbell sleep': 'ringbell, listen, asleep',
  'zeromq pair': 'zeromq.js PAIR',
  'unix socket': 'Unix socket, echo',
  'fork ipc': 'child_process IPC, advanced',
  'worker postMessage': 'worker_threads postMessage',
  'bun unix socket': "Bun's net, echo",
  'bare eventfd': 'floor: two eventfds, blocking, Rust',
}

const CALLERS = {
  'ringbell adaptive': 'ringbell, call',
  'ringbell spin': 'ringbell, call, spinning',
  'ringbell sleep': 'ringbell, call, asleep',
  'ringbell fresh': 'ringbell, call, new memory',
  'ringbell into': 'ringbell, call, given buffer',
  'topic adaptive': 'ringbell, two topics instead of a call',
  'topic sleep': 'ringbell, two topics, asleep',
  'zeromq req/rep': 'zeromq.js REQ/REP',
  'zeromq dealer/router': 'zeromq.js DEALER/ROUTER',
  'http, undici': 'HTTP over a Unix socket, undici',
  'grpc-js': 'gRPC-js over a Unix socket',
  'socket naive': 'Unix socket, calls by hand',
  'socket batched': 'Unix socket, calls by hand, batched',
  'unix socket': 'Unix socket, echo',
  'bare Unix socket': 'floor: Unix socket, blocking, Rust',
  'copy in Node, fresh': 'floor: copy in Node, new memory',
  'copy in Node, into': 'floor: copy in Node, given buffer',
  'memcpy, fresh': 'floor: memcpy, new pages',
  'memcpy, hot': 'floor: memcpy, same buffers',
}

const RECEIVING = {
  lease: 'ringbell, lease',
  borrowed: 'ringbell, borrowed batches',
  owned: 'ringbell, owned batches',
  listen: 'ringbell, callback',
  'for-await': 'ringbell, for await',
}

/** One row for each way of receiving (its faster way of sending), and every rival. */
function headline(entries) {
  const rows = []
  for (const [way, name] of Object.entries(RECEIVING)) {
    const own = entries.filter((entry) => entry.kind === 'ringbell' && entry.name.endsWith(`+${way}`))
    const best = own
      .map((entry) => row(entry, 'perSecond', name))
      .filter(Boolean)
      .sort((a, b) => b.value.median - a.value.median)[0]
    if (best) rows.push(best)
  }
  for (const entry of entries) {
    if (entry.kind === 'rival') rows.push(row(entry, 'perSecond', LABELS[entry.name] ?? entry.name))
  }
  return rows.filter(Boolean).sort((a, b) => b.value.median - a.value.median)
}

/** A row for each entry of a case, the best first. */
function rowsOf(result, scenario, label, metric, names, better) {
  const rows = (find(result, scenario, label)?.entries ?? []).map((entry) => row(entry, metric, names[entry.name]))
  return rows.filter(Boolean).sort((a, b) => better * (a.value.median - b.value.median))
}

/** What filled and open dots mean, where the windows of a result are sorted by distance. */
function speeds({ distances }) {
  if (!distances) return ' Dots are rounds.'
  const said = DISTANCES.filter((distance) => distances[distance].windows > 0).map((distance) => {
    const sign = distance === 'near' ? 'filled: cores near each other' : 'open: far apart'
    return `${sign} (a cache line ${duration(distances[distance].lineNs)})`
  })
  return ` Dots are rounds; ${said.join(', ')}.`
}

function find(result, scenario, label) {
  return result.runs.find((run) => run.scenario === scenario && run.case === label)
}

/** Every chart that the data of this result file allows: { file name: SVG }. */
export function charts(result) {
  const { machine, versions, date, rounds } = result
  const of = `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${versions.node} · medians of ${rounds} rounds`
  const foot = `${of}, a dot each · ${date}`
  const drawn = {}

  const small = find(result, 'throughput', '256 B')
  const rows = headline(small?.entries ?? [])
  if (rows.length) {
    drawn['throughput-256.svg'] = bars({
      title: 'Node to Node, messages of 256 bytes, per second',
      subtitle: `Longer is better.${speeds(result)}`,
      foot,
      rows,
      format: number,
    })
  }

  const sizes = result.runs.filter((run) => run.scenario === 'throughput')
  if (sizes.length > 2) {
    const names = new Map()
    for (const run of sizes)
      for (const entry of run.entries) if (!names.has(entry.name)) names.set(entry.name, entry.kind)
    const chosen = [...names].filter(
      ([name, kind]) =>
        kind === 'rival' || ['ringbell batch+lease', 'ringbell batch+owned', 'memcpy, one core, hot'].includes(name),
    )
    drawn['throughput-sizes.svg'] = lines({
      title: 'Node to Node, bytes per second by message size',
      subtitle: 'Both axes logarithmic. Higher is better.',
      foot: `${of} · ${date}`,
      labels: sizes.map((run) => run.case),
      rows: chosen
        .map(([name, kind]) => ({
          name: LABELS[name] ?? name,
          kind,
          points: sizes.map((run) => {
            const entry = run.entries.find((one) => one.name === name && !one.error)
            const value = entry && row(entry, 'bytesPerSecond')
            return value?.value.median
          }),
        }))
        .filter(({ points }) => points.some(Boolean)),
      format: number,
    })
  }

  for (const [label, file] of [
    ['two cores', 'round-trip.svg'],
    ['one core', 'round-trip-one-core.svg'],
  ]) {
    const trips = rowsOf(result, 'round-trip', label, 'p50', TRIPS, 1)
    if (trips.length) {
      drawn[file] = bars({
        title: `Round trip of 64 bytes, median, ${label}`,
        subtitle: `Logarithmic. Shorter is better.${speeds(result)}`,
        foot,
        rows: trips,
        format: duration,
        logarithmic: true,
      })
    }
  }

  for (const [label, file] of [
    ['two cores', 'calls.svg'],
    ['one core', 'calls-one-core.svg'],
  ]) {
    const trips = rowsOf(result, 'calls', label, 'p50', CALLERS, 1)
    if (trips.length) {
      drawn[file] = bars({
        title: `A call of 64 bytes and its reply, one at a time, median, ${label}`,
        subtitle: `Node to Node. Logarithmic. Shorter is better.${speeds(result)}`,
        foot,
        rows: trips,
        format: duration,
        logarithmic: true,
      })
    }
  }

  const pipelined = find(result, 'calls', 'pipelined, 256 B')
  const calls = rowsOf(result, 'calls', 'pipelined, 256 B', 'perSecond', CALLERS, -1)
  if (calls.length) {
    drawn['calls-pipelined.svg'] = bars({
      title: `Calls a second, 256 bytes there and back, ${pipelined.inFlight} in flight`,
      subtitle: 'Node to Node, one client, two cores, every reply checked. Longer is better.',
      foot,
      rows: calls,
      format: number,
    })
  }

  const replies = rowsOf(result, 'large-reply', '16 MiB', 'bytesPerSecond', CALLERS, -1)
  if (replies.length) {
    drawn['large-reply.svg'] = bars({
      title: 'A reply of 16 MiB, bytes per second',
      subtitle: 'Node to Node, one call at a time; beside a copy within one process. Longer is better.',
      foot,
      rows: replies,
      format: number,
    })
  }
  return drawn
}
