// The project's targets, each evaluated against the raw data of a run: met, missed, or not measured. A part is met when the median
// fulfils it; the range is printed beside it. What crosses between two cores is judged with the cores near each other and far apart,
// each by itself (harness/distance.mjs): then both must fulfil it, as far as both were seen.

import { DISTANCES, only } from './distance.mjs'
import {
  NODE_ECHOES,
  OWNED,
  PRIVATE,
  Results,
  SOCKETS,
  ZEROMQ,
  absolute,
  alike,
  always,
  atLeast,
  atMost,
  beside,
  beyond,
  less,
  lines,
  microsBeyond,
  more,
  never,
  streamed,
  throughput,
  where,
} from './judge.mjs'
import { median, ratio, series, summary } from './statistics.mjs'

const CONNECTED = ['ringbell adaptive', 'ringbell sleep']
const ATTACHING = ['server in Rust', 'server in Node']

const exportTargets = [
  [
    'an exported file is current',
    (r) =>
      ['prometheus', 'json'].flatMap((format) => {
        const figure = (metric, scale) =>
          absolute(r, 'export', '1,000 services, 100 changes a second', format, metric, scale)
        return [
          atMost('slowest change', 100, figure('max', 1e-6), format, 'ms'),
          atMost('CPU', 5, figure('cpuPercent'), format, '%'),
        ]
      }),
  ],
  [
    'a scrape of 1,000 endpoints',
    (r) => [
      atMost(
        'p50',
        20,
        absolute(r, 'export', 'a scrape of 1,000 endpoints', 'prom-client', 'p50', 1e-6),
        undefined,
        'ms',
      ),
    ],
  ],
]

const claimTargets = [
  [
    'a killed holder is followed',
    (r) => [
      atMost('p50', 2, absolute(r, 'claims', 'holder killed', 'claim', 'p50', 1e-6), 'after its pidfd fired', 'ms'),
    ],
  ],
]

const failoverTargets = [
  [
    'a killed primary is followed',
    (r) => {
      const figure = (metric, scale) => absolute(r, 'failover', 'primary killed', '3 replicas', metric, scale)
      return [
        atMost('p50', 3, figure('p50', 1e-6), 'after its pidfd fired', 'ms'),
        atMost('p99', 30, figure('p99', 1e-6), 'after its pidfd fired', 'ms'),
        atMost('p50 from SIGKILL', 12, figure('killP50', 1e-6), undefined, 'ms'),
        never('idempotent calls lost', 0, figure('failures')),
        never('two answerers in an epoch', 0, figure('doubles')),
        ...[8, 16].map((replicas) =>
          beside(
            atMost(
              'p50',
              0,
              absolute(r, 'failover', 'primary killed', `${replicas} replicas`, 'p50', 1e-6),
              `${replicas} replicas`,
              'ms',
            ),
          ),
        ),
      ]
    },
  ],
  [
    'a killed primary, beside managers that restart it',
    (r) =>
      ['pm2', 'node:cluster'].map((name) =>
        less(r, 'failover', 'primary killed', '3 replicas', name, 'killP50', 1 / 20, `× ${name}, p50 from SIGKILL`),
      ),
  ],
]

const READS = '64 B, while it is updated'

const stateTargets = [
  [
    'a state is read while it is updated',
    (r) => [
      ...[
        ['Rust read', 60],
        ['Node readInto', 150],
      ].map(([name, limit]) => atMost(name, limit, absolute(r, 'state', READS, name, 'nsPerRead'), undefined, 'ns')),
      less(r, 'state', READS, 'Rust read', 'iceoryx2 blackboard', 'nsPerRead', 1, '× iceoryx2 blackboard'),
      less(r, 'state', READS, 'Node readInto', 'lmdb-js get', 'nsPerRead', 1 / 3, '× lmdb-js get'),
      beside(
        less(r, 'state', READS, 'Node readInto', 'lmdb-js get, newest', 'nsPerRead', 0, '× the newest by lmdb-js'),
      ),
      less(r, 'state', READS, 'Node readInto', 'Redis GET', 'nsPerRead', 1 / 100, '× Redis GET'),
    ],
  ],
  [
    'a writer of a state with many readers',
    (r) =>
      [1, 8, 64].map((count) =>
        more(
          r,
          'state',
          'updates of a writer',
          `${count} readers`,
          '0 readers',
          'perSecond',
          0.9,
          `${count} readers × none`,
        ),
      ),
  ],
  ...['two cores', 'one core'].map((label) => [
    `a change of a state wakes its reader, ${label}`,
    (r) => [
      less(r, 'state', `a change, Rust, ${label}`, 'state', 'topic', 'p50', 1.1, '× topic, Rust, p50'),
      less(r, 'state', `a change, Node, ${label}`, 'state sleep', 'topic sleep', 'p50', 1.1, '× topic, Node, p50'),
    ],
  ]),
]

const WAITING = ['acquire', 'locks.acquire', 'locks.request', 'withKey'].map((way) => `ringbell ${way}`)

const lockTargets = [
  [
    'a lock without rivals',
    (r) => {
      const figure = (label, name) => absolute(r, 'locks', label, name, 'ns')
      return [
        atMost('Rust lock', 30, figure('no rival, Rust', 'ringbell lock'), undefined, 'ns'),
        atMost('Node tryAcquire', 300, figure('no rival', 'ringbell tryAcquire'), undefined, 'ns'),
        ...WAITING.map((name) => beside(atMost(`Node, ${name}`, 0, figure('no rival', name), undefined, 'ns'))),
      ]
    },
  ],
  [
    'a lock that many want, from Rust',
    (r) =>
      [2, 8, 32].flatMap((count) =>
        [
          ['robust pthread mutex', 0.8],
          ['flock', 50],
        ].map(([name, limit]) =>
          more(r, 'locks', `${count} processes, Rust`, 'ringbell lock', name, 'rate', limit, `${count} × ${name}`),
        ),
      ),
  ],
  [
    'a lock that many want, from Node',
    (r) =>
      [2, 8, 32].flatMap((count) => {
        const against = (mine, limit) =>
          more(r, 'locks', `${count} processes`, mine, 'proper-lockfile', 'rate', limit, `${count} × proper-lockfile`)
        return [against(WAITING[0], 50), ...WAITING.slice(1).map((mine) => beside(against(mine, 0)))]
      }),
  ],
  [
    'the lock of a killed holder',
    (r) => {
      const figure = (name) => absolute(r, 'locks', 'holder killed', name, 'p99', 1e-6)
      return [
        atMost('p99 from SIGKILL', 10, figure('ringbell lock'), undefined, 'ms'),
        ...['robust pthread mutex', 'flock'].map((name) => beside(atMost(name, 0, figure(name), undefined, 'ms'))),
      ]
    },
  ],
]

const callTargets = [
  [
    'call round trip, adaptive',
    (r) => [
      less(r, 'calls', 'two cores', 'ringbell adaptive', 'zeromq req/rep', 'p50', 1 / 30, '× zeromq.js REQ/REP, p50'),
      less(r, 'calls', 'two cores', 'ringbell adaptive', 'http, undici', 'p50', 1 / 30, '× HTTP with undici, p50'),
      microsBeyond(r, 'ringbell adaptive', 'topic adaptive', 2, 'beyond the bare round trip of topics, p50'),
    ],
  ],
  [
    'calls pipelined, 256 B',
    (r) => {
      const against = (name, limit, what) =>
        more(r, 'calls', 'pipelined, 256 B', 'ringbell adaptive', name, 'perSecond', limit, what)
      return [against('zeromq dealer/router', 15, '× zeromq.js DEALER/ROUTER'), against('grpc-js', 10, '× gRPC-js')]
    },
  ],
  ...['two cores', 'one core'].map((label) => [
    `call, asleep, ${label}`,
    (r) => {
      const against = (name) => less(r, 'calls', label, 'ringbell sleep', name, 'p50', 1.1, `× ${name}, p50`)
      return [against('unix socket'), beside(against('socket naive')), beside(against('bare Unix socket'))]
    },
  ]),
  [
    '1,000 connected clients',
    (r) => {
      const clients = r.runs.find((run) => run.scenario === 'clients' && run.case === 'connected')?.clients
      return CONNECTED.flatMap((name) => {
        const figure = (metric, scale) => absolute(r, 'clients', 'connected', name, metric, scale)
        return [
          never('errors', 0, figure('errors'), name),
          beside(atMost('p99', 0, figure('p99', 1e-3), name, 'µs')),
          never("server's fds", 3 * clients + 32, figure('serverFds'), name),
          never('system calls while idle, 5 s', 0, figure('systemCalls'), name),
        ]
      })
    },
  ],
  ...[1000, 2000].map((count) => [
    `${count} processes attach at once`,
    (r) =>
      ATTACHING.flatMap((name) => {
        const figure = (metric) => absolute(r, 'clients', `${count} at once`, name, metric)
        return [
          always('% attached within 5 s', 100, figure('percentWithin5s'), name),
          always('% answered', 100, figure('percentAnswered'), name),
          beside(atMost('the last one', 0, figure('lastAttachedMs'), name, 'ms')),
        ]
      }),
  ]),
  [
    '16 MiB reply',
    (r) => {
      const against = (way, name, limit) =>
        more(r, 'large-reply', '16 MiB', `ringbell ${way}`, name, 'perSecond', limit, `${way} × ${name}`)
      return [
        against('fresh', 'memcpy, fresh', 0.6),
        against('into', 'memcpy, hot', 0.25),
        beside(against('fresh', 'copy in Node, fresh', 0)),
        beside(against('into', 'copy in Node, into', 0)),
      ]
    },
  ],
]

const EARLIER = 'f002595'
const SENDING = ['for-await', 'owned', 'listen', 'borrowed', 'lease'].map((way) => `ringbell send+${way}`)
const BUN = ['bun socket batched', 'bun socket in place']

/** The rust scenario's name for a batch of 64 messages, or of 64 KiB. */
const perCommit = (size) => Math.min(64, 65536 / size)

/** Each of our ways to receive what `send` sends, beside a rival; the slowest of them decides. */
const everySend = (r, names, limit, what) =>
  SENDING.map((mine) => {
    const [own] = r.named('throughput', '256 B', mine)
    const theirs = r.named('throughput', '256 B', names)
    return atLeast(what, limit, own && theirs.length ? ratio(own, theirs, 'perSecond') : undefined, mine)
  })

/** The numbers to reach after f002595. Those beside f002595 itself need `--against f002595`. */
const numbers = [
  ...['64 B', '256 B'].map((label) => [
    `Rust, send each, ${label}`,
    (r) => [
      beyond(r, 'rust', `one way, ${label}`, 'ringbell send', EARLIER, Math.min, 1.7, `× ${EARLIER}`),
      more(r, 'rust', `one way, ${label}`, 'ringbell send', 'C-like ring, 1 a commit', 'perSecond', 1, '× C-like ring'),
    ],
  ]),
  ...Object.entries({ '64 B': 64, '256 B': 256, '4 KiB': 4096, '64 KiB': 65536, '1 MiB': 1 << 20 }).map(
    ([label, size]) => [
      `Rust, batches, ${label}`,
      (r) => {
        const rival = perCommit(size) > 1 ? `shmem-ipc, ${perCommit(size)} a commit` : 'shmem-ipc'
        const against = (name, limit) =>
          more(r, 'rust', `one way, ${label}`, 'ringbell batch', name, 'perSecond', limit, `× ${name}`)
        return [against(rival, 1), ...(size === 256 ? [against('C-like ring, 1 a commit', 1.5)] : [])]
      },
    ],
  ),
  [
    `Node, 256 B, send, beside ${EARLIER}`,
    (r) => [
      beyond(r, 'throughput', '256 B', 'ringbell send+', EARLIER, Math.min, 1.4, 'slowest × its slowest'),
      beyond(r, 'throughput', '256 B', 'ringbell send+', EARLIER, Math.max, 1.3, 'best × its best'),
    ],
  ],
  ['Node, 256 B, send, beside a socket in place', (r) => everySend(r, 'socket in place', 1.5, '× socket in place')],
  ["Node, 256 B, send, beside Bun's net", (r) => everySend(r, BUN, 1, "× Bun's best")],
  ...['4 KiB', '64 KiB', '1 MiB'].map((label) => [
    `Node, owned, ${label}`,
    (r) => [
      throughput(r, label, OWNED, 'worker postMessage', 1, '× worker postMessage'),
      throughput(r, label, OWNED, SOCKETS, 1.5, '× best socket'),
    ],
  ]),
  [
    'Node, owned, memory back within a second',
    (r) => [
      atMost(
        'MiB left',
        1,
        absolute(r, 'memory', 'after owned messages of 64 KiB', 'Node', 'bytesAfterSecond', 2 ** -20),
      ),
    ],
  ],
  ['round trip 64 B awake, Rust', (r) => [lines(r, 'rust', 'round trip, spinning', 'ringbell', 2)]],
  [
    'round trip 64 B awake, Node',
    (r) => [
      where(
        'near',
        atMost('p50', 1, absolute(r, 'round-trip', 'two cores', 'ringbell adaptive', 'p50', 1e-3), undefined, 'µs'),
      ),
      where('far', lines(r, 'round-trip', 'two cores', 'ringbell adaptive', 3)),
    ],
  ],
  ...[
    ['two cores', 1.35],
    ['one core', 2],
  ].map(([label, limit]) => [
    `asleep, Node, ${label}`,
    (r) => [less(r, 'round-trip', label, 'ringbell sleep', 'bare eventfd', 'p50', limit, '× bare eventfd, p50')],
  ]),
]

const targets = [
  [
    '256 B, owned, batches or callback',
    (r) => [
      throughput(r, '256 B', OWNED, ZEROMQ, 30, '× zeromq.js'),
      throughput(r, '256 B', OWNED, SOCKETS, 2, '× best hand-batched socket'),
      alike(r, '256 B', OWNED, 'socket batched'),
    ],
  ],
  [
    '256 B, borrowed or lease',
    (r) => [
      throughput(r, '256 B', PRIVATE, ZEROMQ, 40, '× zeromq.js'),
      throughput(r, '256 B', PRIVATE, SOCKETS, 3, '× best hand-batched socket'),
      alike(r, '256 B', PRIVATE, 'socket in place'),
      alike(r, '256 B', PRIVATE, 'socket batched'),
    ],
  ],
  ['256 B, for await', (r) => [throughput(r, '256 B', ['+for-await'], ZEROMQ, 10, '× zeromq.js')]],
  ['64 B, batch writer and borrowed', (r) => [throughput(r, '64 B', ['batch+borrowed'], ZEROMQ, 50, '× zeromq.js')]],
  [
    '4 KiB',
    (r) => [
      throughput(r, '4 KiB', OWNED, ZEROMQ, 10, 'owned × zeromq.js'),
      throughput(r, '4 KiB', PRIVATE, ZEROMQ, 20, 'borrowed or lease × zeromq.js'),
      throughput(r, '4 KiB', PRIVATE, SOCKETS, 4, 'borrowed or lease × best socket'),
    ],
  ],
  ...['64 KiB', '1 MiB'].map((label) => [
    label,
    (r) => [
      throughput(r, label, OWNED, SOCKETS, 1, 'owned × best socket'),
      alike(r, label, OWNED, 'socket batched'),
      throughput(r, label, PRIVATE, ZEROMQ, 10, 'borrowed or lease × zeromq.js'),
      throughput(r, label, PRIVATE, SOCKETS, 3, 'borrowed or lease × best socket'),
      throughput(r, label, PRIVATE, 'memcpy, one core, hot', 0.25, 'borrowed or lease × memcpy'),
    ],
  ]),
  ...['256 B', '64 KiB'].map((label) => [`stream rung, ${label}`, (r) => streamed(r, label)]),
  [
    'round trip, adaptive',
    (r) => [
      less(r, 'round-trip', 'two cores', 'ringbell adaptive', 'unix socket', 'p50', 0.02, '× Unix socket, p50'),
      atMost('p50', 1, absolute(r, 'round-trip', 'two cores', 'ringbell adaptive', 'p50', 1e-3), undefined, 'µs'),
    ],
  ],
  ...['two cores', 'one core'].map((label) => [
    `round trip, asleep, ${label}`,
    (r) => [
      less(r, 'round-trip', label, 'ringbell sleep', 'bare eventfd', 'p50', 1.35, '× bare eventfd, p50'),
      less(r, 'round-trip', label, 'ringbell sleep', NODE_ECHOES, 'p50', 1, '× best Node rival, p50'),
    ],
  ]),
  [
    'CPU time a message, 256 B, both sides',
    (r) => {
      const mine = r.best('256 B', OWNED)
      return [less(r, 'throughput', '256 B', mine?.name, ZEROMQ, 'cpuMicrosPerMessage', 1 / 15, '× zeromq.js')]
    },
  ],
  [
    'idle, connected, 5 s',
    (r) => [
      atMost('context switches', 0, absolute(r, 'idle', '5 s', 'ringbell', 'contextSwitches')),
      atMost('system calls', 0, absolute(r, 'idle', '5 s', 'ringbell', 'systemCalls')),
    ],
  ],
  [
    'Rust round trip, spinning',
    (r) => [
      less(r, 'rust', 'round trip, spinning', 'ringbell', 'cache line', 'p50', 2, '× cache line, p50'),
      less(r, 'rust', 'round trip, spinning', 'ringbell', 'iceoryx2', 'p50', 1, '× iceoryx2, p50'),
    ],
  ],
  [
    'Rust one way, 256 B',
    (r) => {
      const mine = r.named('rust', 'one way, 256 B', ['ringbell send', 'ringbell batch'])
      const best = mine.sort((a, b) => median(series(b, 'perSecond')) - median(series(a, 'perSecond')))[0]
      const theirs = r.named('rust', 'one way, 256 B', 'iceoryx2')
      const rate = best && summary(series(best, 'perSecond').map((value) => value / 1e6))
      return [
        { ...atLeast('M/s', 20, rate, best?.name) },
        atLeast('× iceoryx2', 2, best && theirs.length ? ratio(best, theirs, 'perSecond') : undefined, best?.name),
      ]
    },
  ],
  ...['two cores', 'one core'].map((label) => [
    `Rust asleep, wake-up, ${label}`,
    (r) => [
      less(r, 'rust', `wake-up round trip, ${label}`, 'ringbell', 'iceoryx2 listener', 'p50', 1, '× iceoryx2 listener'),
    ],
  ]),
  [
    'publisher CPU with 8, 64, 512 subscribers',
    (r) =>
      ['send', 'batch'].flatMap((mode) =>
        [8, 64, 512].map((count) =>
          less(
            r,
            'fan-out',
            mode,
            `${count} subscribers`,
            '1 subscribers',
            'publisherNanosPerMessage',
            1.1,
            `${mode}: ${count} ÷ 1`,
          ),
        ),
      ),
  ],
  [
    'added event',
    (r) =>
      ['Rust', 'Node'].map((side) =>
        atMost(`${side} p99`, 1, absolute(r, 'registry', 'added event', side, 'p99', 1e-6), undefined, 'ms'),
      ),
  ],
  [
    '10,000 records',
    (r) => [
      ...['Rust', 'Node'].map((side) =>
        atMost(`${side} first scan`, 300, absolute(r, 'registry', '10,000 records', side, 'firstMs'), undefined, 'ms'),
      ),
      atMost('Node cached find', 1, absolute(r, 'registry', '10,000 records', 'Node', 'findNs', 1e-3), undefined, 'µs'),
    ],
  ],
  [
    'memory',
    (r) => [
      atMost('Rust allocations a send', 0, absolute(r, 'memory', 'allocations', 'Rust', 'allocationsPerSend')),
      // One stray byte in ten sends is the counter's own doing, not an allocation each.
      atMost('Node heap bytes a send', 0.1, absolute(r, 'memory', 'allocations', 'Node', 'heapBytesPerSend')),
      ...['Rust', 'Node'].map((side) =>
        atMost(
          `${side} MiB a subscriber`,
          1,
          absolute(r, 'memory', 'a subscriber', side, 'bytesPerSubscriber', 2 ** -20),
        ),
      ),
    ],
  ],
]

/** What a part gives with the cores near and far, beside what it gives over all; `met` is that of the distances where there are any. */
function judged(part, apart) {
  const sides = DISTANCES.map((distance) => [distance, apart[distance]]).filter(
    ([distance, side]) => side.value && (part.where ?? distance) === distance,
  )
  if (sides.length === 0) return part.where ? { ...part, value: undefined, met: undefined } : part
  const met = part.met === undefined ? undefined : sides.every(([, side]) => side.met)
  return {
    ...part,
    met,
    apart: Object.fromEntries(sides.map(([distance, { value, met }]) => [distance, { value, met }])),
  }
}

/** Every target: { target, status, parts: [{ label, limit, value, detail, met, apart: { near, far } }] }. */
export function evaluate(runs) {
  const results = new Results(runs)
  const apart = DISTANCES.map((distance) => [distance, new Results(only(runs, distance))])
  return [
    ...numbers,
    ...targets,
    ...callTargets,
    ...claimTargets,
    ...exportTargets,
    ...failoverTargets,
    ...stateTargets,
    ...lockTargets,
  ].map(([target, measure]) => {
    const sides = apart.map(([distance, side]) => [distance, measure(side)])
    const parts = measure(results).map((part, index) =>
      judged(part, Object.fromEntries(sides.map(([distance, side]) => [distance, side[index]]))),
    )
    const limited = parts.filter((part) => part.limit)
    const known = limited.filter((part) => part.met !== undefined)
    const status = known.length < limited.length ? 'not measured' : known.every((part) => part.met) ? 'met' : 'missed'
    return { target, status: known.some((part) => !part.met) ? 'missed' : status, parts }
  })
}
