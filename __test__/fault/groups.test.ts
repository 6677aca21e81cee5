/**
 * SIGKILL, SIGSTOP and step-downs of the primary of a group while clients call all the time: every call ends, with an answer or a code;
 * one process at a time is primary, and none answers in an epoch of another one. `RINGBELL_TEST_FAILOVERS` makes a hunt of it.
 */
import test from 'ava'
import type { Bus } from 'ringbell'
import { PATIENCE_MS } from '../helpers/patience.js'
import { type Peer, peer } from '../helpers/peer.js'
import { type Place, place, until } from '../helpers/place.js'

const FAILOVERS = Number(process.env['RINGBELL_TEST_FAILOVERS'] ?? 20)
const CLIENTS = 3

interface Answer {
  readonly number: number
  readonly pid: number
  readonly epoch: number
}

/** Calls one after the other until it is stopped. */
class Caller {
  readonly answers: Answer[] = []
  readonly failures: string[] = []
  going = true

  async run(bus: Bus, idempotent: boolean): Promise<void> {
    const client = await bus.connect<{ number: number }, Answer>('price', { codec: 'json', route: 'primary' })
    for (let number = 0; this.going; number++) {
      try {
        const answer = await client.call({ number }, { idempotent })
        if (answer.number !== number) throw new Error(`${answer.number} is the answer to ${number}`)
        this.answers.push(answer)
      } catch (error) {
        const { code } = error as { code?: string }
        if (code === undefined) throw error
        this.failures.push(code)
      }
    }
    await client.close()
  }
}

async function start(at: Place, replicas: number): Promise<Peer[]> {
  const peers = Array.from({ length: replicas }, () => peer(at, 'member.mjs', ['price']))
  await Promise.all(peers.map((one) => one.tells('ready')))
  return peers
}

/** Who answers in which epoch: never two. */
function answerers(callers: readonly Caller[]): Map<number, Set<number>> {
  const pids = new Map<number, Set<number>>()
  for (const { answers } of callers)
    for (const { epoch, pid } of answers) pids.set(epoch, (pids.get(epoch) ?? new Set()).add(pid))
  return pids
}

test.serial(
  'primaries are killed, stopped and stepped down: each call ends, and no epoch has two primaries',
  async (t) => {
    const at = place(t)
    t.timeout(PATIENCE_MS + FAILOVERS * 5000)
    const bus = await at.bus()
    let peers = await start(at, 3)
    const callers = Array.from({ length: CLIENTS }, () => new Caller())
    const running = callers.map((caller, index) => caller.run(bus, index % 2 === 0))
    const broken = Promise.all(running)
    const subscriber = await (
      await at.bus()
    ).subscriber<{ epoch: number; tick: number }>('price.ticks', {
      codec: 'json',
      route: 'primary',
    })
    const heard: { epoch: number; tick: number }[] = []
    const listening = subscriber.listen((message) => void heard.push(message.value))
    // The observer: who holds the claim, as others see it.
    const holders: { epoch: number; pid: number }[] = []
    const watch = bus.claims.watch('price')
    const observer = (async () => {
      for await (const { epoch, holder } of watch) if (holder !== undefined) holders.push({ epoch, pid: holder.pid })
    })()
    for (let round = 0; round < FAILOVERS; round++) {
      const { holder, epoch } = await until(() => {
        const state = bus.claims.query('price')
        return state.holder !== undefined && state
      })
      const answered = (): boolean => callers.every(({ answers }) => (answers.at(-1)?.epoch ?? 0) >= epoch)
      await Promise.race([until(answered), broken])
      const primary = peers.find(({ pid }) => pid === holder?.pid)
      if (primary === undefined) throw new Error(`${holder?.pid} holds the claim, and is none of ours`)
      const how = round % 5
      if (how === 4) {
        primary.ask('stepDown')
        await primary.tells('steppedDown')
        continue
      }
      if (how === 3) {
        // It is alive, and nobody passes it by: it must be killed first.
        await primary.stop()
        t.is(bus.claims.query('price').epoch, epoch)
      }
      primary.kill()
      t.is((await primary.end).signal, 'SIGKILL')
      const successor = peer(at, 'member.mjs', ['price'])
      peers = [...peers.filter((one) => one !== primary), successor]
      await successor.tells('ready')
    }
    const last = bus.claims.query('price').epoch
    await until(() => callers.every(({ answers }) => (answers.at(-1)?.epoch ?? 0) >= last))
    for (const caller of callers) caller.going = false
    await broken
    await watch.return()
    await observer
    // Idempotent calls are never lost. The others end as unknown, and only if they were with a primary that was killed.
    for (const [index, { failures }] of callers.entries()) {
      t.deepEqual(index % 2 === 0 ? failures : failures.filter((code) => code !== 'ERR_RINGBELL_OUTCOME_UNKNOWN'), [])
      t.true(failures.length <= FAILOVERS)
    }
    for (const [epoch, pids] of answerers(callers)) t.is(pids.size, 1, `epoch ${epoch} was answered by ${[...pids]}`)
    const epochs = holders.map(({ epoch }) => epoch)
    t.deepEqual(
      epochs,
      [...epochs].sort((a, b) => a - b),
    )
    for (const { epoch, pid } of holders)
      t.deepEqual(new Set(holders.filter((one) => one.epoch === epoch).map((one) => one.pid)), new Set([pid]))
    t.true(new Set(epochs).size > FAILOVERS / 2)
    // The answers of one caller never go back to an earlier epoch.
    for (const { answers } of callers)
      for (const [index, { epoch }] of answers.entries()) t.true(epoch >= (answers[index - 1]?.epoch ?? 0))
    listening.stop()
    await listening.finished
    // A term's messages come after those of the term before, and none of them is missing in between.
    for (const [index, { epoch, tick }] of heard.entries()) {
      const before = heard[index - 1]
      if (before === undefined) continue
      t.true(epoch >= before.epoch)
      if (epoch === before.epoch) t.is(tick, before.tick + 1)
    }
    t.true(heard.length > 0)
    await Promise.all(peers.map((one) => one.ended()))
    await until(() => at.files().length === 0)
  },
)

test.serial('a primary that was stopped goes on, and is still the only one', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const peers = await start(at, 2)
  const client = await bus.connect<{ number: number }, Answer>('price', { codec: 'json', route: 'primary' })
  const { pid, epoch } = await client.call({ number: 0 })
  const primary = peers.find((one) => one.pid === pid) as Peer
  await primary.stop()
  const error = (await client.call({ number: 1 }, { timeout: 50 }).catch((thrown: unknown) => thrown)) as Error
  t.like(error, { code: 'ERR_RINGBELL_TIMEOUT', cause: { code: 'ERR_RINGBELL_OUTCOME_UNKNOWN' } })
  t.like(bus.claims.query('price'), { epoch, holder: { pid } })
  primary.kill('SIGCONT')
  t.like(await client.call({ number: 2 }), { number: 2, pid, epoch })
  await client.close()
  await Promise.all(peers.map((one) => one.ended()))
  await until(async () => {
    await bus.gc()
    return at.files().length === 0
  })
})
