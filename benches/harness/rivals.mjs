// Who is measured, by name. The Node side of every scenario takes its entries from here.

import { RoundTrip, Stream } from './pair.mjs'

const rivals = [
  { name: 'zeromq push/pull', module: './zeromq.mjs', variant: 'push/pull', needs: 'zeromq' },
  { name: 'zeromq pub/sub', module: './zeromq.mjs', variant: 'pub/sub', needs: 'zeromq', lossy: true },
  { name: 'socket naive', module: './socket.mjs', variant: 'naive' },
  { name: 'socket batched', module: './socket.mjs', variant: 'batched' },
  { name: 'socket in place', module: './socket.mjs', variant: 'in place' },
  { name: 'fork ipc', module: './fork.mjs', variant: '', hosted: true },
  { name: 'worker postMessage', module: './worker.mjs', variant: '', hosted: true, oneProcess: true },
]

const echoes = [
  { name: 'zeromq pair', module: './zeromq.mjs', variant: '', needs: 'zeromq' },
  { name: 'unix socket', module: './socket.mjs', variant: '' },
  { name: 'fork ipc', module: './fork.mjs', variant: '', hosted: true },
  { name: 'worker postMessage', module: './worker.mjs', variant: '', hosted: true, oneProcess: true },
]

/** 1 MiB, and 8 MiB for messages of 64 KiB and more. */
export const capacity = (size) => (size >= 65536 ? 8 << 20 : 1 << 20)

function entry(kind, Class, context, { name, ...options }) {
  const pair = new Class({ title: name, scratch: context.scratch, ...options })
  return { name, kind, open: () => pair.open(), window: (span) => pair.window(span), close: () => pair.close(), pair }
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

export function ringbellRoundTrips(context, size, cores, variants) {
  if (!context.has.ringbell) return []
  return variants.map((variant) =>
    entry('ringbell', RoundTrip, context, {
      name: `ringbell ${variant}`,
      module: './ringbell.mjs',
      variant,
      size,
      cores,
      capacity: capacity(size),
    }),
  )
}
