// failover-caller.mjs ringbell|http: calls without a pause, and tells each time that another process has answered, with the time.

import http from 'node:http'
import { Bus } from '../../index.js'

const [how] = process.argv.slice(2)
const tell = (told) =>
  console.log(JSON.stringify(told, (_key, value) => (typeof value === 'bigint' ? String(value) : value)))
let going = true
let answers = 0
let failures = 0
process.stdin.once('data', () => (going = false)).once('end', () => process.exit())

async function ringbell() {
  const bus = await Bus.open()
  const client = await bus.connect('bench', { codec: 'json', route: 'primary' })
  return (number) => client.call({ number }, { idempotent: true })
}

/** Milliseconds after which HTTP asks again. */
const PATIENCE = 20

/** A new connection for each call while there is no server, as a client of HTTP has to. */
function viaHttp() {
  const agent = new http.Agent({ keepAlive: true })
  return () =>
    new Promise((resolve, reject) => {
      const request = http.get({ socketPath: process.env.SOCKET, agent, path: '/' }, (response) => {
        let text = ''
        response.on('data', (chunk) => (text += chunk)).on('end', () => resolve(JSON.parse(text)))
      })
      request.on('error', reject)
      // A connection that a cluster was handing to its worker when that died is never answered.
      request.setTimeout(PATIENCE, () => request.destroy())
    })
}

const call = how === 'http' ? viaHttp() : await ringbell()
/** Who has answered in which epoch. */
const byEpoch = new Map()
let doubles = 0
let last
for (let number = 0; going; number++) {
  try {
    const { pid, epoch } = await call(number)
    answers++
    if (pid !== last) tell({ pid, heard: process.hrtime.bigint() })
    last = pid
    if (epoch === undefined) continue
    if (byEpoch.has(epoch) && byEpoch.get(epoch) !== pid) doubles++
    byEpoch.set(epoch, pid)
  } catch {
    if (how === 'ringbell') failures++
    else await new Promise((done) => setImmediate(done))
  }
}
tell({ answers, failures, doubles })
process.exit()
