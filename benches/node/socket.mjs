// Rival: a Unix socket of node:net with length-prefixed messages.
// `naive` writes one message at a time. The others are what somebody who knows Node well builds: 64 KiB of
// framed messages a write, buffers recycled once written, frames parsed where they lie. `batched` gives the
// application a Uint8Array per message, its own to keep (chunks of the stream are fresh memory): the like of
// *owned*. `in place` has the kernel fill one buffer again and again (`onread`) and makes no views: the like
// of *borrowed*.

import { once } from 'node:events'
import net from 'node:net'
import { stamp, template } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

const HEADER = 4
const BATCH = 65536
const at = (job, name) => `${job.address}/${name}.sock`

/** Listens; the promise (kept in an object, or `await` would unwrap it) is the connection. */
async function listen(file) {
  const server = net.createServer()
  const promise = once(server, 'connection').then(([socket]) => socket)
  server.listen(file)
  await once(server, 'listening')
  return { promise }
}

/** Parses frames out of chunks that the stream hands over. */
function chunkParser(take) {
  let rest
  return (chunk) => {
    const bytes = rest ? Buffer.concat([rest, chunk]) : chunk
    let offset = 0
    while (bytes.length - offset >= HEADER) {
      const length = bytes.readUInt32LE(offset)
      if (bytes.length - offset - HEADER < length) break
      take(bytes, offset + HEADER, length)
      offset += HEADER + length
    }
    rest = offset < bytes.length ? bytes.subarray(offset) : undefined
  }
}

/** The same with a view per message over the chunk, which nobody reuses; a frame cut in two is put together. */
function viewParser(take) {
  let part
  let filled = 0
  let header = 0
  const headerBytes = new Uint8Array(HEADER)
  return (chunk) => {
    const { buffer, byteOffset } = chunk
    let offset = 0
    while (offset < chunk.length) {
      if (part) {
        const rest = Math.min(part.length - filled, chunk.length - offset)
        part.set(chunk.subarray(offset, offset + rest), filled)
        filled += rest
        offset += rest
        if (filled < part.length) return
        take(part)
        part = undefined
      } else if (header > 0 || chunk.length - offset < HEADER) {
        headerBytes[header++] = chunk[offset++]
        if (header < HEADER) continue
        header = 0
        part = new Uint8Array(read32(headerBytes, 0))
        filled = 0
      } else {
        const length = read32(chunk, offset)
        offset += HEADER
        if (chunk.length - offset < length) {
          part = new Uint8Array(length)
          filled = 0
        } else {
          take(new Uint8Array(buffer, byteOffset + offset, length))
          offset += length
        }
      }
    }
  }
}

const read32 = (bytes, offset) =>
  (bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16) | (bytes[offset + 3] << 24)) >>> 0

/** Options for net.connect: read into one buffer of our own, parse in place, move only the unfinished tail. */
function ownBuffer(job, take) {
  const frame = HEADER + job.size
  const buffer = Buffer.allocUnsafeSlow(Math.max(4 * BATCH, 4 * frame))
  let from = 0
  let fill = 0
  return {
    buffer() {
      if (buffer.length - fill < Math.max(BATCH, frame)) {
        buffer.copyWithin(0, from, fill)
        fill -= from
        from = 0
      }
      return buffer.subarray(fill)
    },
    callback(bytes) {
      fill += bytes
      while (fill - from >= HEADER) {
        const length = read32(buffer, from)
        if (fill - from - HEADER < length) break
        take(buffer, from + HEADER, length)
        from += HEADER + length
      }
      if (from === fill) from = fill = 0
      return true
    },
  }
}

export async function sender(job) {
  const { promise } = await listen(at(job, 'data'))
  const pump = job.variant === 'naive' ? pumpNaive : pumpBatched
  return { pump: async (flow) => pump(job, await promise, flow) }
}

async function pumpNaive(job, socket, flow) {
  const payload = template(job.size)
  while (flow.running) {
    for (let i = 0; i < 64; i++) {
      const frame = Buffer.allocUnsafe(HEADER + job.size)
      frame.writeUInt32LE(job.size)
      frame.set(payload, HEADER)
      stamp(frame, HEADER, job.size, flow.sequence++)
      flow.sent++
      if (!socket.write(frame)) await once(socket, 'drain')
    }
    await turn()
  }
}

async function pumpBatched(job, socket, flow) {
  const payload = template(job.size)
  const frame = HEADER + job.size
  const perWrite = Math.max(1, Math.floor(BATCH / frame))
  const free = Array.from({ length: 4 }, () => Buffer.allocUnsafeSlow(perWrite * frame))
  let wake
  let writes = 0
  while (flow.running) {
    const batch = free.pop()
    if (!batch) {
      await new Promise((resolve) => (wake = resolve))
      continue
    }
    for (let offset = 0; offset < batch.length; offset += frame) {
      batch[offset] = job.size
      batch[offset + 1] = job.size >>> 8
      batch[offset + 2] = job.size >>> 16
      batch[offset + 3] = job.size >>> 24
      batch.set(payload, offset + HEADER)
      stamp(batch, offset + HEADER, job.size, flow.sequence++)
    }
    flow.sent += perWrite
    socket.write(batch, () => {
      free.push(batch)
      wake?.()
    })
    if (++writes % 16 === 0) await turn()
  }
}

export async function receiver(job, check) {
  const take = (bytes, offset, length) => check.take(bytes, offset, length)
  const receivers = {
    naive: () => net.connect(at(job, 'data')).on('data', chunkParser(take)),
    batched: () =>
      net.connect(at(job, 'data')).on(
        'data',
        viewParser((view) => check.take(view, 0, view.length)),
      ),
    'in place': () => net.connect({ path: at(job, 'data'), onread: ownBuffer(job, take) }),
  }
  await once(receivers[job.variant](), 'connect')
}

export async function pinger(job, onReply) {
  const { promise } = await listen(at(job, 'echo'))
  let socket
  return {
    async connected() {
      if (socket) return
      socket = await promise
      socket.on('data', chunkParser(onReply))
    },
    send: (message) => socket.write(framed(message, 0, message.length)),
  }
}

export async function echoer(job) {
  const socket = net.connect(at(job, 'echo'))
  socket.on(
    'data',
    chunkParser((bytes, offset, length) => socket.write(framed(bytes, offset, length))),
  )
  await once(socket, 'connect')
}

function framed(bytes, offset, length) {
  const frame = Buffer.allocUnsafe(HEADER + length)
  frame.writeUInt32LE(length)
  frame.set(bytes.subarray(offset, offset + length), HEADER)
  return frame
}
