// What a run prints: one table per case, and the targets.

import { styleText } from 'node:util'
import { DISTANCES, only } from './distance.mjs'
import { series, summary } from './statistics.mjs'

const paint = (style, text) => (process.stdout.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text)

export function number(value) {
  if (value === undefined || !Number.isFinite(value)) return '–'
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e9) return `${(value / 1e9).toFixed(2)} G`
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)} M`
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`
  if (size >= 100) return value.toFixed(0)
  if (size >= 10) return value.toFixed(1)
  return value.toPrecision(3)
}

/** Nanoseconds as a person would say them. */
export function duration(ns) {
  if (ns === undefined || !Number.isFinite(ns)) return '–'
  if (ns < 1e3) return `${number(ns)} ns`
  if (ns < 1e6) return `${number(ns / 1e3)} µs`
  return ns < 1e9 ? `${number(ns / 1e6)} ms` : `${number(ns / 1e9)} s`
}

function rows(header, lines) {
  const widths = header.map((_, column) => Math.max(...[header, ...lines].map((line) => line[column].length)))
  const row = (line) => line.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('   ')
  return [paint('dim', row(header)), ...lines.map(row)].join('\n')
}

const columns = {
  perSecond: (entry) => [
    ['messages/s', number(of(entry, 'perSecond')?.median)],
    ['range', range(of(entry, 'perSecond'), number)],
    ['bytes/s', number(of(entry, 'bytesPerSecond')?.median)],
    ['CPU µs/message', number(of(entry, 'cpuMicrosPerMessage')?.median)],
  ],
  p50: (entry) => latencies(entry),
  p99: (entry) => latencies(entry),
  errors: (entry) => [
    ['errors', number(of(entry, 'errors')?.high)],
    ['p50', duration(of(entry, 'p50')?.median)],
    ['p99', duration(of(entry, 'p99')?.median)],
    ['slowest', duration(of(entry, 'max')?.high)],
    ['calls/s', number(of(entry, 'callsPerSecond')?.median)],
    ["server's fds", number(of(entry, 'serverFds')?.high)],
    ['idle: switches', number(of(entry, 'contextSwitches')?.high)],
    ['system calls', number(of(entry, 'systemCalls')?.high)],
  ],
}

function latencies(entry) {
  return [
    ['p50', duration(of(entry, 'p50')?.median)],
    ['range of p50', range(of(entry, 'p50'), duration)],
    ['p99', duration(of(entry, 'p99')?.median)],
    ['samples', number(of(entry, 'samples')?.median)],
  ]
}

/** Anything else: every figure of the entry's rounds, median and range. */
function figures(entry) {
  const names = Object.keys(entry.rounds.find(Boolean) ?? {})
  return names.flatMap((name) => {
    const value = of(entry, name)
    return value ? [`${name} ${number(value.median)} (${range(value, number)})`] : []
  })
}

function of(entry, metric) {
  const values = series(entry, metric).filter(Number.isFinite)
  return values.length ? summary(values) : undefined
}

function range(value, format) {
  return value ? `${format(value.low)} … ${format(value.high)}` : '–'
}

export function printRun(run) {
  console.log(`\n${paint('bold', `${run.scenario} · ${run.case}`)}`)
  const shown = run.entries.filter((entry) => !entry.error)
  const column = columns[run.metric]
  if (column && shown.length) {
    const cells = shown.map((entry) => [['', entry.name], ...column(entry)])
    console.log(
      rows(
        cells[0].map(([head]) => head),
        cells.map((line) => line.map(([, cell]) => cell)),
      ),
    )
  } else {
    for (const entry of shown) console.log(`${entry.name}: ${figures(entry).join(' · ')}`)
  }
  for (const entry of run.entries) {
    if (entry.error) console.log(paint('red', `${entry.name} failed: ${entry.error.split('\n')[0]}`))
  }
}

/** Figures of which more is better; of all others less is. */
export const MORE = new Set(['perSecond', 'bytesPerSecond'])

/** What the windows near and far give, each by itself: one table for each case that has both or either. */
export function printDistances({ distances, runs }) {
  if (!distances) return console.log('\nnear and far: not measured')
  const said = DISTANCES.map((distance) => {
    const { windows, lineNs } = distances[distance]
    return `${distance} ${windows}${windows ? ` (a line: ${duration(lineNs)})` : ''}`
  })
  const border = distances.bothSeen ? 'cut at' : 'one distance only, by the border of'
  const count = `${said.join(', ')}, moved ${distances.moved.windows}`
  console.log(`\n${paint('bold', 'near and far')}: windows ${count}; ${border} ${duration(distances.borderNs)}`)
  const sides = DISTANCES.map((distance) => only(runs, distance))
  for (const [at, run] of runs.entries()) {
    const { metric } = run
    const format = /^p\d+$/.test(metric) ? duration : number
    const lines = run.entries.flatMap((entry, index) => {
      const cells = sides.map((side) => of(side[at].entries[index], metric))
      const moved = entry.rounds.filter((window) => window?.distance === 'moved').length
      if (!cells.some(Boolean) && moved === 0) return []
      const text = cells.flatMap((cell) => [format(cell?.median), range(cell, format), String(cell?.rounds ?? 0)])
      return [[entry.name, ...text, String(moved)]]
    })
    if (lines.length === 0) continue
    console.log(`\n${paint('bold', `${run.scenario} · ${run.case}`)}, ${metric}`)
    console.log(rows(['', 'near', 'range', 'windows', 'far', 'range', 'windows', 'moved'], lines))
  }
}

const colours = { met: 'green', missed: 'red', 'not measured': 'dim' }

export function printTargets(evaluated) {
  console.log(`\n${paint('bold', 'targets')}`)
  for (const { target, status, parts } of evaluated) {
    console.log(`${paint(colours[status], status.padEnd(12))} ${target}`)
    for (const { label, limit, value, detail, met, apart, unit = '' } of parts) {
      if (!value) continue
      const sides = Object.entries(apart ?? {}).map(([distance, side]) => {
        const mark = side.met === undefined ? '' : side.met ? ' ✓' : ' ✗'
        return ` · ${distance} ${number(side.value.median)}${mark}`
      })
      const text = `${number(value.median)}${unit && ` ${unit}`} (${range(value, number)})`
      const wanted = limit ? `, wanted ${limit}` : ''
      console.log(
        `             ${met === false ? '✗' : '·'} ${label}: ${text}${wanted}${sides.join('')}${detail ? ` · ${detail}` : ''}`,
      )
    }
  }
  const count = (status) => evaluated.filter((entry) => entry.status === status).length
  console.log(`\n${count('met')} met, ${count('missed')} missed, ${count('not measured')} not measured`)
}
