/**
 * Which worker of a queue gets which message. A message is in one place: it waits, it is delayed, or a worker has it.
 * Workers get messages in turn, and no more than they have given credit for. Messages that were lost with a worker come
 * first and are kept apart (see queue.ts), then others that are delivered again, then those that no worker had yet.
 * queue.ts decides what becomes of a message.
 */
import { Fifo } from '../wait/fifo.js'
import type { Job } from './job.js'
import type { Link } from './link.js'

const MOST_CREDIT = 65_536

export class Assignment {
  /** Times that a message was delivered again. */
  redelivered = 0
  readonly #fresh = new Fifo<Job>()
  readonly #again = new Fifo<Job>()
  readonly #apart = new Fifo<Job>()
  readonly #delayed = new Set<Job>()
  readonly #assigned = new Set<Job>()
  /** Workers that have a message which was lost with another worker. */
  readonly #suspecting = new Set<Link>()
  /** Workers that accept more messages, and how many, in the order in which they are served. */
  readonly #ready = new Map<Link, number>()

  /** Messages that wait for a worker. */
  get waiting(): number {
    return this.#fresh.size + this.#again.size + this.#apart.size
  }

  /** Messages that are not to be assigned yet. */
  get delayed(): number {
    return this.#delayed.size
  }

  /** Messages that a worker has. */
  get assigned(): number {
    return this.#assigned.size
  }

  get size(): number {
    return this.waiting + this.#delayed.size + this.#assigned.size
  }

  /** A new message, or one that is to be delivered again; after so many milliseconds. Call `go` when it is counted. */
  put(job: Job, delay = 0): void {
    if (delay <= 0) {
      this.#wait(job)
      return
    }
    this.#delayed.add(job)
    job.pause(delay, () => {
      this.#delayed.delete(job)
      this.#wait(job)
      this.go()
    })
  }

  /** A worker saw nothing of it, so it comes before those that no worker had. */
  putBack(job: Job): void {
    if (job.apart) this.#apart.push(job)
    else this.#again.push(job)
  }

  /** The worker has it no more. */
  takeFrom(job: Job, link: Link | undefined): void {
    this.#assigned.delete(job)
    if (job.apart && link !== undefined) this.#suspecting.delete(link)
  }

  /** Takes it out of wherever it is. A worker that has it is told. */
  remove(job: Job): void {
    if (this.#assigned.has(job) || this.#delayed.delete(job)) {
      this.takeFrom(job, job.takeBack())
      return
    }
    const isIt = (one: Job): boolean => one === job
    for (const list of [this.#apart, this.#again, this.#fresh]) if (list.take(isIt) !== undefined) return
  }

  /** Takes out everything. */
  removeAll(): Job[] {
    const places = [this.#apart, this.#again, this.#fresh, this.#delayed, this.#assigned]
    const jobs = places.flatMap((place) => [...place])
    for (const place of places) place.clear()
    return jobs
  }

  /** A worker accepts so many more. */
  credit(link: Link, amount: number): void {
    this.#ready.set(link, Math.min(MOST_CREDIT, (this.#ready.get(link) ?? 0) + amount))
    this.go()
  }

  /** A worker accepts nothing more. */
  leave(link: Link): void {
    this.#ready.delete(link)
  }

  /** A worker is gone. */
  lose(link: Link): void {
    this.#ready.delete(link)
    this.#suspecting.delete(link)
  }

  /** Assigns waiting messages to the workers that accept more, one worker after the other. */
  go(): void {
    if (this.#apart.size > 0) this.#assignApart()
    while (this.#again.size + this.#fresh.size > 0) {
      const next = this.#ready.entries().next()
      if (next.done === true) return
      const [link, credit] = next.value
      this.#ready.delete(link)
      if (link.gone !== undefined || link.leaving) continue
      this.#give((this.#again.shift() ?? this.#fresh.shift()) as Job, link, credit)
    }
  }

  /** Assigns messages that were lost with a worker, one to each worker, and better to those that have nothing else. */
  #assignApart(): void {
    while (this.#apart.size > 0) {
      let best: Link | undefined
      for (const link of this.#ready.keys()) {
        if (link.gone !== undefined || link.leaving || this.#suspecting.has(link)) continue
        best ??= link
        if (link.calls.size > 0) continue
        best = link
        break
      }
      if (best === undefined) return
      const credit = this.#ready.get(best) ?? 1
      this.#ready.delete(best)
      this.#give(this.#apart.shift() as Job, best, credit)
    }
  }

  #give(job: Job, link: Link, credit: number): void {
    this.#assigned.add(job)
    if (!job.sendOn(link)) {
      this.#assigned.delete(job)
      this.putBack(job)
      return
    }
    if (job.apart && this.#assigned.has(job)) this.#suspecting.add(link)
    if (job.attempts > 1) this.redelivered++
    if (credit > 1) this.#ready.set(link, credit - 1)
  }

  #wait(job: Job): void {
    if (job.attempts === 0) this.#fresh.push(job)
    else this.putBack(job)
  }
}
