// How far apart the two cores of a window were. A hypervisor moves virtual cores: for some seconds they share a cache, then they
// do not, and every figure that crosses between them changes threefold. So a bare cache line is timed before and after each window.
//
// The rule: all those times of a run, on a logarithmic scale, are cut in two where the two sides differ most (Otsu's threshold).
// A window with both times below the cut is *near*, above it *far*, otherwise *moved*. If the two sides differ less than twofold,
// the run had one distance only, and a fixed border names it. A time that no line needs counts as neither, so its window is *moved*
// too. Windows on one core have no distance.

import { spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { median } from './statistics.mjs'

export const DISTANCES = ['near', 'far']
/** Nanoseconds there and back: between what cores with a common cache and cores without one need. */
const BORDER = 300
/** Cores that move change the time of a line at least so much. */
const APART = 2
/** Nanoseconds that no line needs: one of the two threads did not run. */
const LOST = 5000
const WARM_MS = 2
const MEASURE_MS = 10

/** The processes that time a line, one for each pair of cores, started when they are first asked. */
export class Lines {
  #program
  #lines = new Map()

  constructor(programs) {
    this.#program = path.join(programs, 'distance')
  }

  /** Nanoseconds of a round trip between these cores; `undefined` for one core. */
  async measure([first, second] = [0, 1]) {
    if (first === second) return undefined
    const cores = `${first},${second}`
    if (!this.#lines.has(cores)) this.#lines.set(cores, this.#open(cores))
    const { process, replies } = await this.#lines.get(cores)
    process.stdin.write('\n')
    const { value, done } = await replies.next()
    if (done) throw new Error(`the program that times a cache line between cores ${cores} ended`)
    // The fastest group of 64: a thread that lost its core for a while says nothing about the distance.
    return JSON.parse(value).min
  }

  async #open(cores) {
    const words = ['line', '--cores', cores, '--warm', WARM_MS, '--ms', MEASURE_MS].map(String)
    const process = spawn(this.#program, words, { stdio: ['pipe', 'pipe', 'inherit'] })
    // Without this, a program that ended would end the harness too: the next reply is missing anyway.
    process.stdin.on('error', () => {})
    const replies = createInterface({ input: process.stdout })[Symbol.asyncIterator]()
    await replies.next()
    return { process, replies }
  }

  async close() {
    for (const line of this.#lines.values()) await line.then(({ process }) => process.stdin.end()).catch(() => {})
  }
}

/** Where to cut these times: the border of Otsu's rule, and whether there are two distances at all. */
export function cut(times) {
  const sorted = times.map(Math.log).sort((a, b) => a - b)
  const sum = sorted.reduce((total, value) => total + value, 0)
  let best = { between: 0, border: undefined }
  let below = 0
  for (let count = 1; count < sorted.length; count++) {
    below += sorted[count - 1]
    const above = sorted.length - count
    const between = count * above * (below / count - (sum - below) / above) ** 2
    if (between > best.between) best = { between, border: Math.exp((sorted[count - 1] + sorted[count]) / 2) }
  }
  const { border } = best
  const sides = [times.filter((time) => time < border), times.filter((time) => time >= border)]
  const two = sides.every((side) => side.length > 0) && median(sides[1]) >= APART * median(sides[0])
  return { border: two ? border : BORDER, two }
}

/** Every window of the runs, with what it belongs to. */
const windows = (runs) => runs.flatMap((run) => run.entries.flatMap((entry) => entry.rounds.filter(Boolean)))

/** Writes `distance` into every window whose line was timed. Gives the border and what lies on each side of it. */
export function sortByDistance(runs) {
  const measured = windows(runs).filter(({ line }) => line)
  const times = measured.flatMap(({ line }) => line).filter((time) => time < LOST)
  if (times.length === 0) return undefined
  const { border, two } = cut(times)
  for (const window of measured) {
    const [before, after] = window.line.map((time) => (time < border ? 'near' : 'far'))
    window.distance = before === after && Math.max(...window.line) < LOST ? before : 'moved'
  }
  const of = (distance) => measured.filter((window) => window.distance === distance)
  const sides = DISTANCES.map((distance) => {
    const lines = of(distance).flatMap(({ line }) => line)
    return [distance, { windows: of(distance).length, lineNs: lines.length ? median(lines) : undefined }]
  })
  return { borderNs: border, bothSeen: two, ...Object.fromEntries(sides), moved: { windows: of('moved').length } }
}

/** The same runs with the windows of one distance alone, closed up: so ratios compare windows of one distance. */
export function only(runs, distance) {
  const kept = (entry) => ({ ...entry, rounds: entry.rounds.filter((window) => window?.distance === distance) })
  return runs.map((run) => ({ ...run, entries: run.entries.map(kept) }))
}
