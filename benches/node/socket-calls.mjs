// Rival: calls as somebody writes them by hand over a Unix socket of node:net: a length, a number that says which
// call a reply belongs to, and a promise each. `naive` writes each message by itself; `batched` writes what one turn
// of the event loop brought in one go (cork), which only matters with many calls in flight.

import { once } from 'node:events'
import net from 'node:net'

const HEADER = 8
const at = (job) => `${job.address}/calls.sock`

/** Writes frames: a message each, or once a turn what has come together. */
function writer(job, socket) {
  let corked = false
  const write = (id, message) => {
    const frame = Buffer.allocUnsafe(HEADER + Math.min(message.length, 65536))
    frame.writeUInt32LE(message.length)
    frame.writeUInt32LE(id, 4)
    if (message.length <= 65536) {
      frame.set(message, HEADER)
      socket.write(frame)
    } else {
      // Not copied: the stream writes large messages from where they lie.
      socket.write(frame.subarray(0, HEADER))
      socket.write(message)
    }
  }
  if (job.variant !== 'batched') return write
  return (id, message) => {
    if (!corked) {
      corked = true
      socket.cork()
      setImmediate(() => {
        corked = false
        socket.uncork()
      })
    }
    write(id, message)
  }
}

/** Gives `take(id, message)` every whole message; one that comes in pieces is put together in memory of its own. */
function reader(take) {
  const head = Buffer.alloc(HEADER)
  let [headed, part, filled] = [0, undefined, 0]
  return (chunk) => {
    let offset = 0
    while (offset < chunk.length) {
      if (!part && headed === 0 && chunk.length - offset >= HEADER) {
        const length = chunk.readUInt32LE(offset)
        if (chunk.length - offset - HEADER >= length) {
          take(chunk.readUInt32LE(offset + 4), chunk.subarray(offset + HEADER, offset + HEADER + length))
          offset += HEADER + length
          continue
        }
      }
      if (headed < HEADER) {
        const bytes = Math.min(HEADER - headed, chunk.length - offset)
        head.set(chunk.subarray(offset, offset + bytes), headed)
        headed += bytes
        offset += bytes
        if (headed < HEADER) return
        part = Buffer.allocUnsafeSlow(head.readUInt32LE())
        filled = 0
      }
      const bytes = Math.min(part.length - filled, chunk.length - offset)
      part.set(chunk.subarray(offset, offset + bytes), filled)
      filled += bytes
      offset += bytes
      if (filled < part.length) return
      take(head.readUInt32LE(4), part)
      part = undefined
      headed = 0
    }
  }
}

export async function serve(job, answer) {
  const server = net.createServer((socket) => {
    const write = writer(job, socket)
    socket.on(
      'data',
      reader((id, request) => write(id, answer(request))),
    )
  })
  server.listen(at(job))
  await once(server, 'listening')
}

export async function connect(job) {
  const socket = net.connect(at(job))
  await once(socket, 'connect')
  const write = writer(job, socket)
  const waiting = new Map()
  let last = 0
  socket.on(
    'data',
    reader((id, reply) => {
      waiting.get(id)(reply)
      waiting.delete(id)
    }),
  )
  return {
    call: (request) =>
      new Promise((resolve) => {
        waiting.set((last = (last + 1) >>> 0), resolve)
        write(last, request)
      }),
  }
}
