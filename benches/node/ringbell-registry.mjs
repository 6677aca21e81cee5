// ringbell's registry seen from Node: processes that announce, one that watches, one that scans.

import { Bus } from '../../index.js'

/** CLOCK_MONOTONIC: the same in every process. In nanoseconds; a double holds days of it exactly enough. */
const now = () => Number(process.hrtime.bigint())

export async function announcer(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  let announced
  let number = 0
  handlers.announce = async () => {
    const called = now()
    announced = await bus.announce(`bench.event.e${number++}`, {})
    tell({ type: 'announced', called, returned: now() })
  }
  handlers.withdraw = async () => {
    await announced.close()
    tell({ type: 'withdrawn' })
  }
}

export async function watcher(job, { tell }) {
  const bus = await Bus.open({ path: job.bus })
  const run = async () => {
    for await (const event of bus.services.watch({ filter: 'bench.event.*' })) tell({ type: event.type, at: now() })
  }
  void run()
}

export async function holder(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const held = []
  for (let number = job.from; number < job.from + job.count; number++) {
    held.push(await bus.announce(`bench.scan.s${number}`, {}))
  }
  handlers.release = async () => {
    for (const announced of held) await announced.close()
    tell({ type: 'released' })
  }
}

export async function scanner(job, { handlers, tell }) {
  handlers.scan = async () => {
    const begun = performance.now()
    const bus = await Bus.open({ path: job.bus })
    const records = bus.services.list().length
    const firstMs = performance.now() - begun
    // The first `find` begins to follow the bus; the view answers once it has everybody.
    bus.services.find('bench.scan.s0')
    let seen = 0
    for await (const _ of bus.services.watch({ filter: 'bench.scan.*' })) if (++seen === job.count) break
    const names = Array.from({ length: 1024 }, (_, i) => `bench.scan.s${(i * 7919) % job.count}`)
    let missing = 0
    const look = (count) => {
      for (let i = 0; i < count; i++) if (!bus.services.find(names[i & 1023])) missing++
    }
    look(100_000)
    const from = performance.now()
    look(1_000_000)
    const findNs = performance.now() - from
    tell({ type: 'scanned', records, firstMs, findNs, missing })
  }
}

/** What one cached `resolve` takes, among `count` instances of the name. */
export async function resolver(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  for (let number = 0; number < job.count; number++) {
    await bus.announce('bench.resolve', { endpoints: { http: `unix:/run/bench/${number}.sock` } })
  }
  handlers.resolve = async () => {
    while (bus.endpoints('bench.resolve').length < job.count) await new Promise((done) => setTimeout(done, 1))
    let found = 0
    const look = (count) => {
      for (let i = 0; i < count; i++) if (bus.resolve('bench.resolve', 'http').socketPath) found++
    }
    look(100_000)
    const from = performance.now()
    look(1_000_000)
    tell({ type: 'resolved', resolveNs: performance.now() - from, found })
  }
}
