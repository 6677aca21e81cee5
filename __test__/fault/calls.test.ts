/** SIGKILL of servers, clients and workers with calls in flight: each call ends, with the word that fits, and nothing stays. */
import { once } from 'node:events'
import test from 'ava'
import type { RingbellError } from 'ringbell'
import { peer, type Peer } from '../helpers/peer.js'
import { codeOf, place, until } from '../helpers/place.js'

const KILLS = Number(process.env['RINGBELL_TEST_KILLS'] ?? 8)

test.serial('a killed server: no call hangs, and the outcome is unknown', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const client = await bus.connect<object, unknown>('calls', { codec: 'json' })
  for (let kill = 0; kill < KILLS; kill++) {
    const child = peer(at, 'call-server.mjs')
    await client.call({ op: 'echo' })
    const never = Array.from({ length: 500 }, () => codeOf(() => client.call({ op: 'never' })))
    const gone = once(client, 'disconnected')
    if (kill % 2 === 0) child.kill()
    else void client.call({ op: 'die' }).catch(() => {})
    // Which of the two depends on how many requests it had taken when it died: the last ones, perhaps, or all, or none.
    const codes = new Set(await Promise.all(never))
    for (const code of codes)
      t.true(code === 'ERR_RINGBELL_OUTCOME_UNKNOWN' || code === 'ERR_RINGBELL_NOT_SENT', code ?? 'answered')
    t.is((await gone)[1], 'died')
    await child.end
  }
  await until(() => client.stats().inFlight === 0)
})

test.serial('idempotent calls find the next server, and no other call does', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const first = peer(at, 'call-server.mjs')
  const client = await bus.connect<object, { pid: number; redelivered: boolean }>('calls', { codec: 'json' })
  await client.call({ op: 'echo' })
  first.kill('SIGSTOP')
  const repeated = Array.from({ length: 100 }, () => client.call({ op: 'again' }, { idempotent: true }))
  const lost = codeOf(() => client.call({ op: 'again' }))
  const second = peer(at, 'call-server.mjs')
  await second.tells('ready')
  first.kill()
  for (const { pid } of await Promise.all(repeated)) t.is(pid, second.pid)
  t.true(['ERR_RINGBELL_OUTCOME_UNKNOWN', 'ERR_RINGBELL_NOT_SENT'].includes((await lost) as string))
  second.ask('close')
  await second.tells('closed')
})

test.serial('a server survives a client killed with 10,000 calls in flight', async (t) => {
  const at = place(t)
  const child = peer(at, 'call-server.mjs')
  const bus = await at.bus()
  const client = await bus.connect<object, unknown>('calls', { codec: 'json' })
  await client.call({ op: 'echo' })
  const evil = peer(at, 'call-client.mjs', ['calls', 10_000])
  await evil.tells('sent')
  t.is((await client.serverStats()).inHand, 10_000)
  evil.kill()
  while ((await client.call({ op: 'aborted' })) !== 10_000) await new Promise((done) => setTimeout(done, 2))
  const stats = await client.serverStats()
  t.deepEqual([stats.inHand, stats.connections], [0, 1])
  child.ask('close')
  await child.tells('closed')
})

test.serial('calls to a stopped server time out; other servers are called', async (t) => {
  const at = place(t)
  const stopped = peer(at, 'call-server.mjs')
  const bus = await at.bus()
  const client = await bus.connect<object, { pid: number }>('calls', { codec: 'json', route: 'round-robin' })
  await client.call({ op: 'echo' })
  stopped.kill('SIGSTOP')
  const late = client.call({ op: 'echo' }, { timeout: 50 })
  const error = await t.throwsAsync<RingbellError>(late)
  t.is(error?.code, 'ERR_RINGBELL_TIMEOUT')
  t.like(error?.cause, { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' })
  const alive = peer(at, 'call-server.mjs')
  await until(() => client.connections.length === 2)
  // Those of the stopped server are given up as soon as the others are answered.
  const pids: number[] = []
  const over = new AbortController()
  const calls = Array.from({ length: 4 }, async () => {
    const { pid } = await client.call({ op: 'echo' }, { signal: over.signal })
    if (pids.push(pid) === 2) over.abort()
  })
  const ends = await Promise.allSettled(calls)
  t.is(ends.filter(({ status }) => status === 'rejected').length, 2)
  t.deepEqual(pids, [alive.pid, alive.pid])
  stopped.kill('SIGCONT')
  await client.call({ op: 'echo' })
  for (const child of [stopped, alive]) {
    child.ask('close')
    await child.tells('closed')
  }
})

test.serial('killed workers: every message is done, and repeats are marked', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const queue = await bus.queue<{ n: number; deadly: boolean }>('jobs', { codec: 'json' })
  const done = new Map<number, boolean[]>()
  const workers: Peer[] = []
  const start = (): void => {
    const worker = peer(at, 'work.mjs', ['jobs'])
    worker.process.on('message', (told: { what: string; value: { n: number }; redelivered: boolean }) => {
      if (told.what === 'done') done.set(told.value.n, [...(done.get(told.value.n) ?? []), told.redelivered])
    })
    worker.process.once('exit', (_code, signal) => {
      if (signal === 'SIGKILL' && !over) start()
    })
    workers.push(worker)
  }
  let over = false
  start()
  start()
  const count = 300
  for (let n = 0; n < count; n++) queue.push({ n, deadly: n % 100 === 50 })
  await queue.drained()
  over = true
  const killed = (): number => workers.filter(({ running }) => !running).length
  // What a worker told, and that it is gone, comes on ways of its own.
  await until(() => done.size === count && killed() >= 3)
  t.is(killed(), 3)
  for (const [n, times] of done) t.true(times.slice(1).every(Boolean), `${n} was delivered again without a word`)
  t.true(queue.stats().redelivered >= 3)
  t.is(queue.stats().failed, 0)
})
