// Who is measured, by name. The Node side of every scenario takes its entries from here.

import { Crowd } from './crowd.mjs'
import { Calls, RoundTrip, Stream } from './pair.mjs'
import { bun } from './prepare.mjs'

const rivals = [
  { name: 'zeromq push/pull', module: './zeromq.mjs', variant: 'push/pull', needs: 'zeromq' },
  { name: 'zeromq pub/sub', module: './zeromq.mjs', variant: 'pub/sub', needs: 'zeromq', lossy: true },
  { name: 'socket naive', module: './socket.mjs', variant: 'naive' },
  { name: 'socket batched', module: './socket.mjs', variant: 'batched' },
  { name: 'socket in place', module: './socket.mjs', variant: 'in place' },
  { name: 'fork ipc', module: './fork.mjs', variant: '', hosted: true },
  { name: 'worker postMessage', module: './worker.mjs', variant: '', hosted: true, oneProcess: true },
  { name: 'worker shared ring', module: './worker-ring.mjs', variant: '', hosted: true, oneProcess: true },
  { name: 'bun socket batched', module: './socket.mjs', variant: 'batched', needs: 'bun' },
  { name: 'bun socket in place', module: './socket.mjs', variant: 'in place', needs: 'bun' },
]

const echoes = [
  { name: 'zeromq pair', module: './zeromq.mjs', variant: '', needs: 'zeromq' },
  { name: 'unix socket', module: './socket.mjs', variant: '' },
  { name: 'fork ipc', module: './fork.mjs', variant: '', hosted: true },
  { name: 'worker postMessage', module: './worker.mjs', variant: '', hosted: true, oneProcess: true },
  { name: 'bun unix socket', module: './socket.mjs', variant: '', needs: 'bun' },
]

const callers = [
  { name: 'zeromq req/rep', module: './zeromq-calls.mjs', variant: 'req/rep', needs: 'zeromq', single: true },
  { name: 'zeromq dealer/router', module: './zeromq-calls.mjs', variant: 'dealer/router', needs: 'zeromq' },
  { name: 'http, undici', module: './http.mjs', variant: '', needs: 'undici' },
  { name: 'grpc-js', module: './grpc.mjs', variant: '', needs: 'grpc' },
  { name: 'socket naive', module: './socket-calls.mjs', variant: 'naive' },
  { name: 'socket batched', module: './socket-calls.mjs', variant: 'batched', many: true },
]

/** 1 MiB, and 8 MiB for messages of 64 KiB and more. */
export const capacity = (size) => (size >= 65536 ? 8 << 20 : 1 << 20)

function entry(kind, Class, { scratch, benches }, { name, ...options }) {
  const runtime = options.needs === 'bun' ? bun(benches) : undefined
  const pair = new Class({ title: name, scratch, benches, runtime, ...options })
  const work = { open: () => pair.open(), window: (span) => pair.window(span), close: () => pair.close() }
  return { name, kind, cores: options.cores, ...work, pair }
}

const available = (context) => (rival) => !rival.needs || context.has[rival.needs]

export function streams(context, size) {
  return rivals.filter(available(context)).map((rival) => entry('rival', Stream, context, { ...rival, size }))
}

export function ringbellStreams(context, size, variants) {
  if (!context.has.ringbell) return []
  return variants.map((variant) =>
    entry('ringbell', Stream, context, {
      name: `ringbell ${variant}`,
      module: './ringbell.mjs',
      variant,
      size,
      capacity: capacity(size),
    }),
  )
}

export function roundTrips(context, size, cores) {
  return echoes.filter(available(context)).map((rival) => entry('rival', RoundTrip, context, { ...rival, size, cores }))
}

/** Of topics, or of what another `module` has. */
export function ringbellRoundTrips(context, size, cores, variants, name = 'ringbell', module = './ringbell.mjs') {
  if (!context.has.ringbell) return []
  return variants.map((variant) =>
    entry('ringbell', RoundTrip, context, {
      name: `${name} ${variant}`,
      module,
      variant,
      size,
      cores,
      capacity: capacity(size),
    }),
  )
}

function chosen(Class, fits) {
  return (context, options) =>
    callers
      .filter(available(context))
      .filter(fits)
      .map((rival) => entry('rival', Class, context, { ...rival, ...options }))
}

/** Calls one at a time; `inFlight` at a time; many connected clients on one server. */
export const calls = chosen(Calls, (rival) => !rival.many)
export const pipelines = chosen(Calls, (rival) => !rival.single)
export const crowds = chosen(Crowd, (rival) => !rival.single && !rival.many)

function ringbell(Class) {
  const one = (context, options) => (variant) =>
    entry('ringbell', Class, context, {
      name: `ringbell ${variant}`,
      module: './ringbell-calls.mjs',
      variant,
      ...options,
    })
  return (context, variants, options) => (context.has.ringbell ? variants.map(one(context, options)) : [])
}

export const ringbellCalls = ringbell(Calls)
export const ringbellCrowds = ringbell(Crowd)

/** What a call would be if nothing had to travel. */
export const copies = (context, options) => entry('floor', Calls, context, { module: './copy.mjs', ...options })
