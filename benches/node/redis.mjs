// The rival Redis over a Unix socket, without persistence. The writer starts the server, which dies with it, and sets the value
// again as soon as the last SET is answered; a pipeline of SETs would let each GET wait for longer. The reader awaits one GET
// after another. The protocol is spoken by hand, and each reply has a known length: less work than a client library has.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { stamp, template } from '../harness/payload.mjs'
import { answerReads, SIZE } from './reads.mjs'
import { turn } from './turn.mjs'

const KEY = 'value'
const socketOf = (job) => path.join(job.bus, 'redis')
const SERVER = ['--port', '0', '--save', '', '--appendonly', 'no', '--logfile', '/dev/null']
const GET = Buffer.from(`*2\r\n$3\r\nGET\r\n$${KEY.length}\r\n${KEY}\r\n`)
const SET = Buffer.from(`*3\r\n$3\r\nSET\r\n$${KEY.length}\r\n${KEY}\r\n$${SIZE}\r\n`)
const HEAD = `$${SIZE}\r\n`
const END = Buffer.from('\r\n')

/** Sends one command, and resolves with its reply of `length` bytes. One at a time. */
async function connect(job) {
  const socket = net.connect(socketOf(job))
  await once(socket, 'connect')
  let [received, expected, settle] = [Buffer.alloc(0), 0, undefined]
  socket.on('data', (chunk) => {
    received = received.length > 0 ? Buffer.concat([received, chunk]) : chunk
    if (received[0] === 45) throw new Error(`Redis answers ${received}`)
    if (received.length < expected) return
    const reply = received
    received = Buffer.alloc(0)
    settle(reply)
  })
  return (command, length) =>
    new Promise((resolve) => {
      expected = length
      settle = resolve
      socket.write(command)
    })
}

export async function writer(job) {
  const words = ['--pdeathsig', 'KILL', 'redis-server', ...SERVER, '--dir', job.bus, '--unixsocket', socketOf(job)]
  const server = spawn('setpriv', words, { stdio: 'ignore' })
  server.on('exit', (code) => {
    throw new Error(`redis-server ended: ${code}`)
  })
  while (!existsSync(socketOf(job))) await turn()
  const ask = await connect(job)
  const value = Buffer.from(template(SIZE))
  let number = 0
  const set = () => {
    stamp(value, 0, SIZE, number++)
    return ask(Buffer.concat([SET, value, END]), '+OK\r\n'.length)
  }
  await set()
  const run = async () => {
    for (;;) await set()
  }
  void run()
}

export async function reader(job, tools) {
  const ask = await connect(job)
  const from = HEAD.length
  const get = async () => (await ask(GET, from + SIZE + END.length)).subarray(from, from + SIZE)
  answerReads(tools, get, { promise: true })
}
