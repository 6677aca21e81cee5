/**
 * Numbers with units: reads those that people type, and formats others for people. Bytes are binary (1 MiB), messages
 * decimal (1 k/s).
 */
import { invalidArgument } from './exit-codes.js'

const BINARY: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }
const MILLISECONDS: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  '': 1000,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
}
const LONGEST_MS = 2 ** 31 - 1

/** `65536`, `64K`, `64KiB`, `1M`: bytes. */
export function parseSize(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?$/i.exec(text.trim()) ?? []
  const bytes = Number(digits) * (BINARY[(unit ?? '').toLowerCase()] ?? Number.NaN)
  if (!Number.isSafeInteger(bytes)) throw invalidArgument('A size is a number of bytes, such as 65536, 64K or 1MiB.')
  return bytes
}

/** How a duration is written, for help texts. */
export const DURATIONS = '(250ms, 2s, 5m; a bare number is seconds)'

/** `250ms`, `2s`, `1.5`, `5m`: milliseconds. A bare number counts seconds. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*(us|ms|s|m|min|h|)$/i.exec(text.trim()) ?? []
  const ms = Number(digits) * (MILLISECONDS[(unit ?? '').toLowerCase()] ?? Number.NaN)
  if (!(ms <= LONGEST_MS))
    throw invalidArgument('A duration is a number of seconds, or has a unit: 2, 250ms, 1.5s, 5m.')
  return ms
}

export function parseCount(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(count) || count < 1) throw invalidArgument('It is a whole number from 1.')
  return count
}

/** A number of things of which there may be none. */
export function parseAmount(text: string): number {
  const amount = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(amount)) throw invalidArgument('It is a whole number from 0.')
  return amount
}

export function parseRate(text: string): number {
  const rate = Number(text)
  if (!(rate > 0 && Number.isFinite(rate))) throw invalidArgument('A rate is a number of messages per second above 0.')
  return rate
}

/** 1,234,567 */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US')
}

/** `1 message`, `1,234 messages` */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`
}

/** 1 MiB, 1.5 GiB, 100 B */
export function size(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'])
}

/** 12.3 M/s */
export function perSecond(n: number): string {
  return n < 10_000 ? `${n < 10 ? trimmed(n) : count(n)}/s` : `${scaled(n, 1000, ['', 'k', 'M', 'G'])}/s`
}

/** 3.2 GiB/s */
export function bandwidth(bytes: number): string {
  return `${size(bytes)}/s`
}

/** Nanoseconds as 460 ns, 12.3 µs, 4.6 ms, 2 s. */
export function duration(ns: number): string {
  return scaled(ns, 1000, ['ns', 'µs', 'ms', 's'])
}

/** 17:03:09.042, in local time */
export function clock(at: Date): string {
  return `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, '0')}`
}

function scaled(n: number, step: number, units: readonly string[]): string {
  let at = 0
  while (Math.abs(n) >= step && at < units.length - 1) {
    n /= step
    at++
  }
  return `${trimmed(n)} ${units[at] ?? ''}`.trimEnd()
}

/** Three significant digits, no trailing zeros. */
function trimmed(n: number): string {
  return n >= 1000 ? count(n) : String(Number(n.toPrecision(3)))
}
