// @ts-check
/** Numbers as people like to read them. */

/** @param {number} n */
export function count(n) {
  return Math.round(n).toLocaleString('en-US')
}

/** @param {number} n @param {number} step @param {string[]} units */
function scaled(n, step, units) {
  let at = 0
  while (n >= step && at < units.length - 1) {
    n /= step
    at++
  }
  return `${Number(n.toPrecision(3))} ${units[at]}`
}

/** @param {number} bytes */
export function size(bytes) {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'])
}

/** @param {number} bytes a second */
export function bandwidth(bytes) {
  return `${scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB'])}/s`
}

/** @param {number} ns */
export function duration(ns) {
  return scaled(ns, 1000, ['ns', 'µs', 'ms', 's'])
}
