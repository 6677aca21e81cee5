// What targets are made of: entries found by name in the runs of a result, their ratios and figures, and the limit that each is
// held to. A part is { label, limit, value, detail, unit, met, where }; `met` is undefined where something was not measured.

import { difference, median, ratio, series, summary } from './statistics.mjs'

export const ZEROMQ = ['zeromq push/pull', 'zeromq pub/sub']
export const SOCKETS = ['socket batched', 'socket in place']
export const NODE_ECHOES = ['zeromq pair', 'unix socket', 'fork ipc', 'worker postMessage']

export class Results {
  constructor(runs) {
    this.runs = runs
  }

  entries(scenario, label) {
    const run = this.runs.find((one) => one.scenario === scenario && one.case === label)
    return (run?.entries ?? []).filter((entry) => !entry.error && entry.rounds.length > 0)
  }

  named(scenario, label, names) {
    return this.entries(scenario, label).filter((entry) => [names].flat().includes(entry.name))
  }

  /** ringbell's best entry (by median) among those whose way of receiving is one of `ways`. */
  best(label, ways) {
    const mine = this.entries('throughput', label).filter(
      (entry) => entry.kind === 'ringbell' && ways.some((way) => entry.name.endsWith(way)),
    )
    return mine.sort((a, b) => median(series(b, 'perSecond')) - median(series(a, 'perSecond')))[0]
  }
}

/** The stream rung's best entry beside the hand-batched socket, and beside shared memory. */
export function streamed(results, label) {
  const rate = (entry) => median(series(entry, 'perSecond'))
  const fastest = (entries) => entries.sort((a, b) => rate(b) - rate(a))[0]
  const all = results.entries('throughput', label).filter((entry) => entry.kind === 'ringbell')
  const mine = fastest(all.filter((entry) => entry.name.startsWith('ringbell stream+')))
  const shared = fastest(all.filter((entry) => !entry.name.startsWith('ringbell stream+')))
  const [socket] = results.named('throughput', label, 'socket batched')
  const against = (other) => (mine && other ? ratio(mine, other, 'perSecond') : undefined)
  return [
    atLeast('× hand-batched socket', 0.8, against(socket), mine?.name),
    beside(atLeast(`× shared memory (${shared?.name})`, 0, against(shared), mine?.name)),
  ]
}

export const OWNED = ['+owned', '+listen']
export const PRIVATE = ['+borrowed', '+lease']

const short = (limit) => Number(limit.toPrecision(4))

export function atLeast(label, limit, value, detail) {
  return { label, limit: `≥ ${short(limit)}`, value, detail, met: value ? value.median >= limit : undefined }
}

export function atMost(label, limit, value, detail, unit) {
  return { label, limit: `≤ ${short(limit)}`, value, detail, unit, met: value ? value.median <= limit : undefined }
}

/** The ratio of ringbell's best entry of some ways to the strongest rival of some names, in each round. */
export function throughput(results, label, ways, names, limit, what) {
  const mine = results.best(label, ways)
  const theirs = results.named('throughput', label, names)
  const value = mine && theirs.length ? ratio(mine, theirs, 'perSecond') : undefined
  return atLeast(what, limit, value, mine?.name)
}

/** Said beside a target, and not judged: the same against the rival whose way of receiving is the same. */
export function alike(results, label, ways, name) {
  return beside(throughput(results, label, ways, [name], 0, `for comparison: × ${name}`))
}

/** The ratio of one entry to others by a figure where less is better; each round against the best of them. */
export function less(results, scenario, label, mine, theirs, metric, limit, what) {
  const [own] = results.named(scenario, label, mine)
  const others = results.named(scenario, label, theirs)
  const value = own && others.length ? ratio(own, others, metric, Math.min) : undefined
  return atMost(what, limit, value, own?.name)
}

export function absolute(results, scenario, label, name, metric, scale = 1) {
  const [own] = results.named(scenario, label, name)
  const values = own ? series(own, metric).filter(Number.isFinite) : []
  return values.length ? summary(values.map((value) => value * scale)) : undefined
}

/** The ratio of one entry to another by a figure where more is better. */
export function more(results, scenario, label, mine, theirs, metric, limit, what) {
  const [own] = results.named(scenario, label, mine)
  const [other] = results.named(scenario, label, theirs)
  return atLeast(what, limit, own && other ? ratio(own, other, metric) : undefined, own?.name)
}

/** Said beside a target, and not judged. */
export function beside(measured) {
  const { limit: _, met: __, ...part } = measured
  return part
}

/** Limits that not even one round may break. */
export function never(label, limit, value, detail) {
  return { ...atMost(label, limit, value, detail), met: value ? value.high <= limit : undefined }
}

export function always(label, limit, value, detail) {
  return { ...atLeast(label, limit, value, detail), met: value ? value.low >= limit : undefined }
}

export function microsBeyond(results, mine, other, limit, what) {
  const [own] = results.named('calls', 'two cores', mine)
  const [base] = results.named('calls', 'two cores', other)
  const micros = own && base ? difference(own, base, 'p50', 1e-3) : undefined
  return atMost(what, limit, micros, own?.name, 'µs')
}

/** A part that counts with the cores near each other alone, or far apart alone. */
export function where(distance, part) {
  return { ...part, label: `${part.label}, ${distance}`, where: distance }
}

/** A figure in cache lines, there and back, as they were timed before and after each window. */
export function lines(results, scenario, label, name, limit) {
  const [own] = results.named(scenario, label, name)
  const values = (own?.rounds ?? [])
    .filter((window) => window?.line)
    .map(({ p50, line: [a, b] }) => (2 * p50) / (a + b))
  return atMost('× cache line of the same window, p50', limit, values.length ? summary(values) : undefined, name)
}

/** The slowest (or fastest) of our entries in each round, to the slowest (or fastest) of an earlier commit, by messages a second. */
export function beyond(results, scenario, label, mine, commit, pick, limit, what) {
  const all = results.entries(scenario, label).filter(({ name }) => name.startsWith(mine))
  const [own, earlier] = [false, true].map((old) => all.filter(({ name }) => name.endsWith(`, ${commit}`) === old))
  const extreme = (entries, round) => pick(...entries.map((entry) => entry.rounds[round]?.perSecond ?? Number.NaN))
  const values = (own[0]?.rounds ?? []).map((_, round) => extreme(own, round) / extreme(earlier, round))
  const known = earlier.length ? values.filter(Number.isFinite) : []
  return atLeast(what, limit, known.length ? summary(known) : undefined)
}
