/**
 * Timeouts of calls. Deadlines of one duration are in one list, in the order in which they expire. So setting one and cancelling
 * it are a few stores, and one timer serves them all. The timers do not keep the process alive: the wait itself does. A deadline that is
 * over is judged after a last look (last-look.ts). An empty list stays with its timer, because the next call probably has the same timeout;
 * but only a few empty lists may stay.
 */
import { lastLook } from './last-look.js'

const now = performance.now.bind(performance)

export class Deadline {
  readonly expires: number
  readonly #line: Line
  readonly #expire: () => void
  previous: Deadline | undefined
  next: Deadline | undefined

  /** Calls `expire` after `ms` milliseconds, unless it is cancelled. */
  constructor(ms: number, expire: () => void) {
    this.expires = now() + ms
    this.#expire = expire
    this.#line = lineOf(Math.ceil(ms))
    this.#line.append(this)
  }

  cancel(): void {
    this.#line.remove(this)
  }

  due(): void {
    this.#line.remove(this)
    this.#expire()
  }
}

/** With more lists than this, the empty ones go when a new one is made. */
const MANY_LINES = 64

class Line {
  readonly #ms: number
  #first: Deadline | undefined
  #last: Deadline | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(ms: number) {
    this.#ms = ms
  }

  get empty(): boolean {
    return this.#first === undefined
  }

  append(one: Deadline): void {
    one.previous = this.#last
    if (this.#last === undefined) this.#first = one
    else this.#last.next = one
    this.#last = one
    if (this.#timer === undefined) this.#start(this.#ms)
  }

  /** Removing a deadline that is not in the list changes nothing. */
  remove(one: Deadline): void {
    const { previous, next } = one
    if (previous === undefined && next === undefined && this.#first !== one) return
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    one.previous = undefined
    one.next = undefined
  }

  /** It is empty, and is not used again. */
  end(): void {
    clearTimeout(this.#timer)
    lines.delete(this.#ms)
  }

  #start(ms: number): void {
    this.#timer = setTimeout(() => this.#expireAll(), ms).unref()
  }

  #expireAll(): void {
    const time = now()
    lastLook(() => this.#judge(time))
  }

  /** Judges those that were over before the last look. */
  #judge(time: number): void {
    this.#timer = undefined
    for (let first = this.#first; first !== undefined && first.expires <= time; first = this.#first) first.due()
    const first = this.#first
    if (first === undefined) {
      // A callback may have made room for another list of this duration.
      if (lines.get(this.#ms) === this) this.end()
    }
    // A callback may have started the timer again.
    else if (this.#timer === undefined) this.#start(Math.max(1, Math.ceil(first.expires - now())))
  }
}

const lines = new Map<number, Line>()
let mostLines = MANY_LINES

/** @internal How many lists there are, for tests. */
export function lineCount(): number {
  return lines.size
}

function lineOf(ms: number): Line {
  let line = lines.get(ms)
  if (line === undefined) {
    if (lines.size >= mostLines) sweep()
    lines.set(ms, (line = new Line(ms)))
  }
  return line
}

/** The limit follows the lists that are in use, so that a sweep costs each new list a little. */
function sweep(): void {
  for (const line of lines.values()) if (line.empty) line.end()
  mostLines = Math.max(MANY_LINES, 2 * lines.size)
}
