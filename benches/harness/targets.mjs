// The project's targets, each evaluated against the raw data of a run: met, missed, or not measured.
// A part is met when the median fulfils it; the range is printed beside it.

import { difference, median, ratio, series, summary } from './statistics.mjs'

const ZEROMQ = ['zeromq push/pull', 'zeromq pub/sub']
const SOCKETS = ['socket batched', 'socket in place']
const NODE_ECHOES = ['zeromq pair', 'unix socket', 'fork ipc', 'worker postMessage']

class Results {
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
function streamed(results, label) {
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

const OWNED = ['+owned', '+listen']
const PRIVATE = ['+borrowed', '+lease']

const short = (limit) => Number(limit.toPrecision(4))

function atLeast(label, limit, value, detail) {
  return { label, limit: `≥ ${short(limit)}`, value, detail, met: value ? value.median >= limit : undefined }
}

function atMost(label, limit, value, detail, unit) {
  return { label, limit: `≤ ${short(limit)}`, value, detail, unit, met: value ? value.median <= limit : undefined }
}

/** The ratio of ringbell's best entry of some ways to the strongest rival of some names, in each round. */
function throughput(results, label, ways, names, limit, what) {
  const mine = results.best(label, ways)
  const theirs = results.named('throughput', label, names)
  const value = mine && theirs.length ? ratio(mine, theirs, 'perSecond') : undefined
  return atLeast(what, limit, value, mine?.name)
}

/** Said beside a target, and not judged: the same against the rival whose way of receiving is the same. */
function alike(results, label, ways, name) {
  return beside(throughput(results, label, ways, [name], 0, `for comparison: × ${name}`))
}

/** The ratio of one entry to others by a figure where less is better; each round against the best of them. */
function less(results, scenario, label, mine, theirs, metric, limit, what) {
  const [own] = results.named(scenario, label, mine)
  const others = results.named(scenario, label, theirs)
  const value = own && others.length ? ratio(own, others, metric, Math.min) : undefined
  return atMost(what, limit, value, own?.name)
}

function absolute(results, scenario, label, name, metric, scale = 1) {
  const [own] = results.named(scenario, label, name)
  const values = own ? series(own, metric).filter(Number.isFinite) : []
  return values.length ? summary(values.map((value) => value * scale)) : undefined
}

/** The ratio of one entry to another by a figure where more is better. */
function more(results, scenario, label, mine, theirs, metric, limit, what) {
  const [own] = results.named(scenario, label, mine)
  const [other] = results.named(scenario, label, theirs)
  return atLeast(what, limit, own && other ? ratio(own, other, metric) : undefined, own?.name)
}

/** Said beside a target, and not judged. */
function beside(measured) {
  const { limit: _, met: __, ...part } = measured
  return part
}

/** Limits that not even one round may break. */
function never(label, limit, value, detail) {
  return { ...atMost(label, limit, value, detail), met: value ? value.high <= limit : undefined }
}

function always(label, limit, value, detail) {
  return { ...atLeast(label, limit, value, detail), met: value ? value.low >= limit : undefined }
}

function microsBeyond(results, mine, other, limit, what) {
  const [own] = results.named('calls', 'two cores', mine)
  const [base] = results.named('calls', 'two cores', other)
  const micros = own && base ? difference(own, base, 'p50', 1e-3) : undefined
  return atMost(what, limit, micros, own?.name, 'µs')
}

const CONNECTED = ['ringbell adaptive', 'ringbell sleep']
const ATTACHING = ['server in Rust', 'server in Node']

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

/** Every target: { target, status, parts: [{ label, limit, value, detail, met }] }. */
export function evaluate(runs) {
  const results = new Results(runs)
  return [...targets, ...callTargets].map(([target, measure]) => {
    const parts = measure(results)
    const judged = parts.filter((part) => part.limit)
    const known = judged.filter((part) => part.met !== undefined)
    const status = known.length < judged.length ? 'not measured' : known.every((part) => part.met) ? 'met' : 'missed'
    return { target, status: known.some((part) => !part.met) ? 'missed' : status, parts }
  })
}
