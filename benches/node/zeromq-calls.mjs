// Rival: calls over zeromq.js and ipc://. REQ/REP is its way to call one at a time; with many in flight it takes
// DEALER/ROUTER, and a number beside each message that says which call a reply belongs to.

import { Dealer, Reply, Request, Router, context } from 'zeromq'

const at = (job) => `ipc://${job.address}/calls.sock`

context.maxSockets = 4096

export async function serve(job, answer) {
  if (job.variant === 'req/rep') {
    const socket = new Reply({ linger: 0 })
    await socket.bind(at(job))
    const run = async () => {
      for await (const [request] of socket) await socket.send(answer(request))
    }
    void run()
  } else {
    const socket = new Router({ linger: 0 })
    await socket.bind(at(job))
    const run = async () => {
      for await (const [client, id, request] of socket) await socket.send([client, id, answer(request)])
    }
    void run()
  }
}

export async function connect(job) {
  if (job.variant === 'req/rep') {
    const socket = new Request({ linger: 0 })
    socket.connect(at(job))
    return {
      async call(request) {
        await socket.send(request)
        const [reply] = await socket.receive()
        return reply
      },
    }
  }
  const socket = new Dealer({ linger: 0 })
  socket.connect(at(job))
  const waiting = new Map()
  let last = 0
  const run = async () => {
    for await (const [id, reply] of socket) {
      const key = id.readUInt32LE()
      waiting.get(key)(reply)
      waiting.delete(key)
    }
  }
  void run()
  // Two sends at once are an error when the first has to wait.
  const outgoing = []
  let sending = false
  const flush = async () => {
    sending = true
    while (outgoing.length) await socket.send(outgoing.shift())
    sending = false
  }
  return {
    call: (request) =>
      new Promise((resolve, reject) => {
        const id = Buffer.allocUnsafe(4)
        id.writeUInt32LE((last = (last + 1) >>> 0))
        waiting.set(last, resolve)
        outgoing.push([id, request])
        if (!sending) flush().catch(reject)
      }),
  }
}
