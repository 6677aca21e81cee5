// Rival: the IPC channel of child_process.fork with advanced serialization. The sender forks its receiver.
// Two groups of messages are in flight at most: the callback of a group's last message makes room for another.

import { fork } from 'node:child_process'
import process from 'node:process'
import { stamp, template } from '../harness/payload.mjs'

export function host(job) {
  const { peerRole, ...rest } = job
  const child = fork(new URL('endpoint.mjs', import.meta.url), [JSON.stringify({ ...rest, role: peerRole })], {
    serialization: 'advanced',
    execPath: 'taskset',
    execArgv: ['-c', String(job.cores[1]), process.execPath],
  })
  process.on('exit', () => child.kill('SIGKILL'))
  return {
    link: child,
    tell: (message) => child.send(message),
    listen: (fn) => child.on('message', (message) => message instanceof Uint8Array || fn(message)),
  }
}

const onBytes = (link, fn) => link.on('message', (message) => message instanceof Uint8Array && fn(message))

export async function sender(job, child) {
  const message = template(job.size)
  const group = job.size >= 65536 ? 1 : 64
  return {
    async pump(flow) {
      let before = Promise.resolve()
      while (flow.running) {
        let last
        for (let i = 1; i <= group; i++) {
          stamp(message, 0, job.size, flow.sequence++)
          flow.sent++
          if (i < group) child.send(message)
          else last = new Promise((resolve) => child.send(message, resolve))
        }
        await before
        before = last
      }
      await before
    },
  }
}

export async function receiver(job, check, link) {
  onBytes(link, (message) => check.take(message, 0, message.length))
}

export async function pinger(job, onReply, child) {
  onBytes(child, (message) => onReply(message, 0, message.length))
  return { send: (message) => child.send(message) }
}

export async function echoer(job, link) {
  onBytes(link, (message) => link.send(message))
}
