// Charts, drawn as plain SVG from the raw data of a result file. They follow the reader's colour scheme.

import { duration, number } from './table.mjs'
import { series, summary } from './statistics.mjs'

const WIDTH = 760
const FONT = 'font-family="system-ui, sans-serif"'
const STYLE = `<style>
  .ground { fill: #ffffff } .text { fill: #1f2328 } .soft { fill: #656d76 } .grid { stroke: #d0d7de }
  .ringbell { fill: #0969da } .rival { fill: #afb8c1 } .floor { fill: #d8b4fe } .range { stroke: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .text { fill: #e6edf3 } .soft { fill: #8d96a0 } .grid { stroke: #30363d }
    .ringbell { fill: #4493f8 } .rival { fill: #6e7681 } .floor { fill: #8957e5 } .range { stroke: #e6edf3 }
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

/** Horizontal bars of medians, with a whisker for the range of the rounds. */
function bars({ title, subtitle, foot, rows, format, logarithmic = false }) {
  const left = 210
  const right = WIDTH - 110
  const top = 72
  const step = 26
  const most = Math.max(...rows.map((one) => one.value.high))
  const least = Math.min(...rows.map((one) => one.value.low)) / 2
  const x = (value) =>
    logarithmic
      ? left + ((Math.log(value) - Math.log(least)) / (Math.log(most) - Math.log(least))) * (right - left)
      : left + (value / most) * (right - left)
  const body = rows.map(({ name, kind, value }, i) => {
    const y = top + i * step
    const middle = y + 9
    return `<text class="text" x="${left - 10}" y="${y + 13}" font-size="12.5" text-anchor="end">${escape(name)}</text>
<rect class="${kind}" x="${left}" y="${y}" width="${Math.max(1, x(value.median) - left).toFixed(1)}" height="18" rx="2"/>
<line class="range" x1="${x(value.low).toFixed(1)}" x2="${x(value.high).toFixed(1)}" y1="${middle}" y2="${middle}" stroke-width="1" opacity="0.6"/>
<text class="text" x="${(Math.max(x(value.high), x(value.median)) + 8).toFixed(1)}" y="${y + 13}" font-size="12.5">${escape(format(value.median))}</text>`
  })
  return frame(top + rows.length * step + 36, title, subtitle, body.join('\n'), foot)
}

/** Lines over message sizes, both axes logarithmic. */
function lines({ title, subtitle, foot, labels, rows, format }) {
  const left = 90
  const right = WIDTH - 190
  const top = 76
  const bottom = 380
  const values = rows.flatMap((line) => line.points.filter(Boolean))
  const most = Math.log(Math.max(...values))
  const least = Math.log(Math.min(...values))
  const x = (i) => left + (i / (labels.length - 1)) * (right - left)
  const y = (value) => bottom - ((Math.log(value) - least) / (most - least)) * (bottom - top)
  const colours = {
    ringbell: ['#0969da', '#2da44e'],
    rival: ['#cf222e', '#fa4549', '#bf8700', '#8250df', '#bf3989', '#6e7781', '#bc4c00'],
    floor: ['#8b949e'],
  }
  const used = {}
  const parts = labels.map(
    (label, i) => `<line class="grid" x1="${x(i)}" x2="${x(i)}" y1="${top}" y2="${bottom}"/>
<text class="soft" x="${x(i)}" y="${bottom + 18}" font-size="12" text-anchor="middle">${escape(label)}</text>`,
  )
  for (let power = Math.ceil(least / Math.LN10); power <= Math.floor(most / Math.LN10); power++) {
    const at = y(10 ** power).toFixed(1)
    parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${at}" y2="${at}"/>
<text class="soft" x="${left - 8}" y="${Number(at) + 4}" font-size="12" text-anchor="end">${escape(format(10 ** power))}</text>`)
  }
  const ends = rows.map((line) => ({ line, y: y(line.points.findLast(Boolean)) })).sort((a, b) => a.y - b.y)
  ends.forEach((end, i) => (end.label = i ? Math.max(end.y, ends[i - 1].label + 16) : end.y))
  for (const { line, label } of ends) {
    const colour = colours[line.kind][(used[line.kind] = (used[line.kind] ?? -1) + 1) % colours[line.kind].length]
    const points = line.points.map((value, i) => value && `${x(i).toFixed(1)},${y(value).toFixed(1)}`).filter(Boolean)
    const dash = line.kind === 'floor' ? ' stroke-dasharray="5 4"' : ''
    parts.push(`<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="${line.kind === 'ringbell' ? 2.5 : 1.5}"${dash}/>
<text x="${right + 10}" y="${(label + 4).toFixed(1)}" font-size="12" fill="${colour}">${escape(line.name)}</text>`)
  }
  return frame(bottom + 60, title, subtitle, parts.join('\n'), foot)
}

function row(entry, metric, name = entry.name) {
  const values = series(entry, metric).filter(Number.isFinite)
  return values.length && !entry.error ? { name, kind: entry.kind, value: summary(values) } : undefined
}

const LABELS = {
  'zeromq push/pull': 'zeromq.js PUSH/PULL',
  'zeromq pub/sub': 'zeromq.js PUB/SUB',
  'socket naive': 'Unix socket',
  'socket batched': 'Unix socket, hand-batched',
  'socket in place': 'the same, without views',
}

const CALLERS = {
  'ringbell adaptive': 'ringbell',
  'ringbell spin': 'ringbell, spinning',
  'ringbell sleep': 'ringbell, asleep',
  'ringbell fresh': 'ringbell, new memory',
  'ringbell into': 'ringbell, given buffer',
  'topic adaptive': 'two topics, no call',
  'topic sleep': 'two topics, asleep',
  'zeromq req/rep': 'zeromq.js REQ/REP',
  'zeromq dealer/router': 'zeromq.js DEALER/ROUTER',
  'http, undici': 'HTTP, undici',
  'grpc-js': 'gRPC-js',
  'socket naive': 'Unix socket, call by hand',
  'socket batched': 'the same, batched',
  'unix socket': 'Unix socket, echo',
  'bare Unix socket': 'Unix socket, Rust',
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

function find(result, scenario, label) {
  return result.runs.find((run) => run.scenario === scenario && run.case === label)
}

/** Every chart that the data of this result file allows: { file name: SVG }. */
export function charts(result) {
  const { machine, versions, date, rounds } = result
  const foot = `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${versions.node} · medians and ranges of ${rounds} rounds · ${date}`
  const drawn = {}

  const small = find(result, 'throughput', '256 B')
  const rows = headline(small?.entries ?? [])
  if (rows.length) {
    drawn['throughput-256.svg'] = bars({
      title: 'Node to Node, messages of 256 bytes, per second',
      subtitle: 'Two processes on two cores, every message checked by its receiver. Longer is better.',
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
      foot,
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
    const trips = rowsOf(result, 'round-trip', label, 'p50', {}, 1)
    if (trips.length) {
      drawn[file] = bars({
        title: `Round trip of 64 bytes, median, ${label}`,
        subtitle: 'Logarithmic. Shorter is better.',
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
        subtitle: 'Node to Node. Logarithmic. Shorter is better.',
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
