/**
 * SIGKILL, SIGSTOP and step-downs of the primary of a group while clients call all the time: every call ends, with an answer or a code;
 * one process at a time is primary, and none answers in an epoch of another one. `RINGBELL_TEST_FAILOVERS` makes a hunt of it.
 */
import test from 'ava'
import { type Answer, answerers, Caller, figures, primaries } from '../helpers/callers.js'
import { PATIENCE_MS } from '../helpers/patience.js'
import { type Peer, peer } from '../helpers/peer.js'
import { type Place, place, until } from '../helpers/place.js'

const FAILOVERS = Number(process.env['RINGBELL_TEST_FAILOVERS'] ?? 20)
const CLIENTS = 3

async function start(at: Place, replicas: number): Promise<Peer[]> {
  const peers = Array.from({ length: replicas }, () => peer(at, 'member.mjs', ['price']))
  await Promise.all(peers.map((one) => one.tells('ready')))
  return peers
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
    // A term's messages come after those of the term before, and none of them is missing in between.
    const heard = { epoch: 0, tick: 0, messages: 0, wrong: [] as string[] }
    const listening = subscriber.listen(({ value: { epoch, tick } }) => {
      const right = epoch === heard.epoch ? tick === heard.tick + 1 : epoch > heard.epoch
      if (!right) heard.wrong.push(`${tick} of ${epoch} after ${heard.tick} of ${heard.epoch}`)
      Object.assign(heard, { epoch, tick, messages: heard.messages + 1 })
    })
    const observer = primaries(bus)
    const kills: { epoch: number; at: number }[] = []
    for (let round = 0; round < FAILOVERS; round++) {
      const { holder, epoch } = await until(() => {
        const state = bus.claims.query('price')
        return state.holder !== undefined && state
      })
      await Promise.race([until(() => callers.every((caller) => caller.epoch >= epoch)), broken])
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
      kills.push({ epoch, at: performance.now() })
      primary.kill()
      t.is((await primary.end).signal, 'SIGKILL')
      const successor = peer(at, 'member.mjs', ['price'])
      peers = [...peers.filter((one) => one !== primary), successor]
      await successor.tells('ready')
    }
    const last = bus.claims.query('price').epoch
    await until(() => callers.every((caller) => caller.epoch >= last))
    for (const caller of callers) caller.going = false
    await broken
    const holders = await observer.end()
    t.log(figures(callers, kills))
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
    t.is(new Set(epochs).size, new Set(holders.map(({ epoch, pid }) => `${epoch} ${pid}`)).size)
    t.true(new Set(epochs).size > FAILOVERS / 2)
    // The answers of one caller never go back to an earlier epoch.
    for (const caller of callers)
      for (const [index, { epoch }] of caller.answerers.entries())
        t.true(epoch >= (caller.answerers[index - 1]?.epoch ?? 0))
    listening.stop()
    await listening.finished
    t.deepEqual(heard.wrong, [])
    t.true(heard.messages > 0)
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
