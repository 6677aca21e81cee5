/** Who calls a group all the time while a test does harm to it, and who watches which of its processes is primary. */
import type { Bus } from 'ringbell'

/** What a member answers. */
export interface Answer {
  readonly number: number
  readonly pid: number
  readonly epoch: number
}

/** Calls the primary of `price`, one call after the other until it is stopped. */
export class Caller {
  /** The first answer of each process in each epoch, in the order in which they came, with the time of `performance.now()`. */
  readonly answerers: { pid: number; epoch: number; at: number }[] = []
  readonly failures: string[] = []
  answers = 0
  going = true

  /** That of the last answer; 0 if there was none. */
  get epoch(): number {
    return this.answerers.at(-1)?.epoch ?? 0
  }

  async run(bus: Bus, idempotent: boolean): Promise<void> {
    const client = await bus.connect<{ number: number }, Answer>('price', { codec: 'json', route: 'primary' })
    for (let number = 0; this.going; number++) {
      try {
        this.#hear(await client.call({ number }, { idempotent }), number)
      } catch (error) {
        const { code } = error as { code?: string }
        if (code === undefined) throw error
        this.failures.push(code)
      }
    }
    await client.close()
  }

  #hear({ number, pid, epoch }: Answer, asked: number): void {
    if (number !== asked) throw new Error(`${number} is the answer to ${asked}`)
    this.answers++
    const last = this.answerers.at(-1)
    if (last?.pid !== pid || last.epoch !== epoch) this.answerers.push({ pid, epoch, at: performance.now() })
  }
}

/** Who has answered in which epoch: never two. */
export function answerers(callers: readonly Caller[]): Map<number, Set<number>> {
  const pids = new Map<number, Set<number>>()
  for (const { epoch, pid } of callers.flatMap((caller) => caller.answerers))
    pids.set(epoch, (pids.get(epoch) ?? new Set()).add(pid))
  return pids
}

/** How long it took after each of these times until a caller had an answer of a later epoch: the figures in words. */
export function figures(callers: readonly Caller[], kills: readonly { epoch: number; at: number }[]): string {
  const first = ({ epoch, at }: { epoch: number; at: number }): number =>
    Math.min(...callers.map((caller) => (caller.answerers.find((one) => one.epoch > epoch)?.at ?? Infinity) - at))
  const times = kills.map(first).sort((a, b) => a - b)
  const share = (part: number): string =>
    `${times[Math.min(times.length - 1, Math.floor(times.length * part))]?.toFixed(1)} ms`
  const answers = callers.reduce((sum, caller) => sum + caller.answers, 0)
  const failures = callers.reduce((sum, caller) => sum + caller.failures.length, 0)
  return `${kills.length} kills, from SIGKILL to the next answer: median ${share(0.5)}, p99 ${share(0.99)}, at most ${share(1)}; ${answers} answers, ${failures} calls with an unknown outcome`
}

/** A process that was primary, in the order of its term. */
export interface Holder {
  readonly epoch: number
  readonly pid: number
}

/** The observer: who holds the claim of `price`, as others see it. */
export function primaries(bus: Bus): { end(): Promise<Holder[]> } {
  const holders: Holder[] = []
  const watch = bus.claims.watch('price')
  const observer = (async () => {
    for await (const { epoch, holder } of watch) if (holder !== undefined) holders.push({ epoch, pid: holder.pid })
  })()
  return {
    async end() {
      await watch.return()
      await observer
      return holders
    },
  }
}
