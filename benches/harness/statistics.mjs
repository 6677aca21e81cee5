// Medians, ranges and ratios. A ratio is taken round by round, between windows that lie seconds apart, and
// only then summed up: a machine that slows down for a minute slows both sides of it.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

export function summary(values) {
  return { median: median(values), low: Math.min(...values), high: Math.max(...values), rounds: values.length }
}

/** Percentiles (nearest rank) of `count` samples at the start of a Float64Array, which is sorted in place. */
export function distribution(samples, count = samples.length) {
  const sorted = samples.subarray(0, count).sort()
  const at = (part) => sorted[Math.min(count, Math.max(1, Math.ceil(part * count))) - 1]
  return { samples: count, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1) }
}

/** The metric of each round of an entry; rounds without it are left out, but keep their place. */
export function series(entry, metric) {
  return entry.rounds.map((round) => round?.[metric])
}

/** Per-round differences of one metric. */
export function difference(entry, other, metric, scale = 1) {
  const others = series(other, metric)
  const values = series(entry, metric).map((value, round) => (value - others[round]) * scale)
  const known = values.filter(Number.isFinite)
  return known.length ? summary(known) : undefined
}

/** Per-round ratios of one metric. With several denominators, each round uses the strongest of them. */
export function ratio(numerator, denominators, metric, strongest = Math.max) {
  const above = series(numerator, metric)
  const below = [denominators].flat().map((entry) => series(entry, metric))
  const ratios = []
  above.forEach((value, round) => {
    const others = below.map((values) => values[round]).filter(Number.isFinite)
    if (Number.isFinite(value) && others.length) ratios.push(value / strongest(...others))
  })
  return ratios.length ? summary(ratios) : undefined
}
