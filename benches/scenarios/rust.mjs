// Rust to Rust, beside the rivals and the floors: 64 B round trip spinning, one way from 64 B to 1 MiB, waking a sleeper.

import { alternate } from '../harness/rounds.mjs'
import { capacity } from '../harness/rivals.mjs'
import { entry } from '../harness/rust.mjs'
import { sizes } from './throughput.mjs'

export async function run(context) {
  const { floors, iceoryx2, nng, ringbellRust, 'shmem-ipc': shmem, zmq } = context.has
  const list = (rows) => rows.filter(([has]) => has).map(([, ...row]) => entry(context, ...row))
  /** A batch is 64 KiB, or 64 messages of the sizes that fit several times into a page. */
  const oneWay = (size) => {
    const own = { size, capacity: capacity(size) }
    const batch = Math.max(1, Math.min(64, 65536 / size))
    return list([
      [ringbellRust, 'ringbell send', 'ringbell', 'ringbell-topic', 'one-way', { ...own, mode: 'send' }],
      [ringbellRust, 'ringbell batch', 'ringbell', 'ringbell-topic', 'one-way', { ...own, mode: 'batch' }],
      [iceoryx2, 'iceoryx2', 'rival', 'rival-iceoryx2', 'one-way', own],
      [shmem, 'shmem-ipc', 'rival', 'rival-shmem-ipc', 'one-way', own],
      [shmem && batch > 1, `shmem-ipc, ${batch} a commit`, 'rival', 'rival-shmem-ipc', 'one-way', { ...own, batch }],
      [zmq, 'libzmq', 'rival', 'rival-zmq', 'one-way', own],
      [nng, 'nng', 'rival', 'rival-nng', 'one-way', own],
      [floors, 'C-like ring, 1 a commit', 'floor', 'floor', 'ring', { ...own, batch: 1 }],
      [floors && batch > 1, `C-like ring, ${batch} a commit`, 'floor', 'floor', 'ring', { ...own, batch }],
    ])
  }
  const cases = [
    {
      case: 'round trip, spinning',
      metric: 'p50',
      unit: 'ns',
      entries: list([
        [ringbellRust, 'ringbell', 'ringbell', 'ringbell-topic', 'round-trip', { size: 64 }],
        [iceoryx2, 'iceoryx2', 'rival', 'rival-iceoryx2', 'round-trip', { size: 64 }],
        [shmem, 'shmem-ipc', 'rival', 'rival-shmem-ipc', 'round-trip', { size: 64 }],
        [zmq, 'libzmq', 'rival', 'rival-zmq', 'round-trip', { size: 64 }],
        [nng, 'nng', 'rival', 'rival-nng', 'round-trip', { size: 64 }],
        [floors, 'cache line', 'floor', 'floor', 'line', {}],
      ]),
    },
    ...Object.entries(sizes)
      .filter(([label]) => !context.sizes || context.sizes.includes(label))
      .map(([label, size]) => ({ case: `one way, ${label}`, metric: 'perSecond', bytes: size, entries: oneWay(size) })),
    ...['0,1', '0,0'].map((cores) => ({
      case: `wake-up round trip, ${cores === '0,1' ? 'two cores' : 'one core'}`,
      metric: 'p50',
      unit: 'ns',
      entries: list([
        [ringbellRust, 'ringbell', 'ringbell', 'ringbell-topic', 'wake', { size: 64, cores }],
        [iceoryx2, 'iceoryx2 listener', 'rival', 'rival-iceoryx2', 'wake', { cores }],
        [floors, 'bare eventfd', 'floor', 'floor', 'eventfd', { cores }],
      ]),
    })),
  ]
  const runs = []
  for (const { entries, ...rest } of cases) {
    runs.push({
      scenario: 'rust',
      ...rest,
      entries: await alternate(entries, { ...context, title: `Rust, ${rest.case}` }),
    })
  }
  return runs
}
