/** How many handlers run: none begins beyond the limit, whether a client gives up or connects again, and what is garbage locks nobody out. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test, { type ExecutionContext } from 'ava'
import type { Client, RingbellError } from 'ringbell'
import type { Link } from '../../../src/channel/link.js'
import { MOST_LEFT, Places } from '../../../src/channel/places.js'
import { fakeBus, turns } from '../../helpers/fake-channel.js'

/** Calls and gives up at once, until the server says that it is busy. */
async function flood(client: Pick<Client<number, unknown>, 'call'>, calls: number): Promise<(string | undefined)[]> {
  const codes: (string | undefined)[] = []
  for (let n = 0; n < calls; n++) {
    const abort = new AbortController()
    const call = client.call(n, { signal: abort.signal }).catch(({ code }: RingbellError) => codes.push(code))
    await turns(3)
    abort.abort()
    await call
  }
  return codes
}

async function pair(t: ExecutionContext, handler: (n: number) => unknown) {
  const { bus, fake } = fakeBus(t)
  const options = { codec: 'json', maxRequests: 3 } as const
  const server = await bus.serve<number, unknown>('slow', options, handler as (n: number) => Promise<unknown>)
  const client = await bus.connect<number, unknown>('slow', { codec: 'json' })
  await client.connected()
  return { bus, fake, server, client }
}

for (const [kind, handler] of [
  ['a promise', (wait: Promise<void>) => wait.then(() => 'done')],
  [
    'a stream',
    (wait: Promise<void>) =>
      (async function* () {
        await wait
        yield 'done'
      })(),
  ],
] as const) {
  test(`a client that calls and gives up in a loop starts no handler beyond maxRequests: ${kind}`, async (t) => {
    const waiting: (() => void)[] = []
    const { server, client } = await pair(t, () => handler(new Promise<void>((done) => waiting.push(done))))
    const read = async (): Promise<unknown> => {
      for await (const value of client.stream(0)) return value
      return undefined
    }
    const ask = kind === 'a stream' ? read : () => client.call(0)
    if (kind === 'a stream') {
      for (let n = 0; n < 3; n++) {
        const values = client.stream(n)
        values.next().catch(() => {})
        await turns(3)
        await values.return()
      }
      await turns(3)
    } else {
      const codes = await flood(client, 6)
      t.deepEqual(codes, [...Array<string>(3).fill('ABORT_ERR'), ...Array<string>(3).fill('ERR_RINGBELL_BUSY')])
    }
    t.is(waiting.length, 3)
    t.like(server.stats(), { inHand: 0, abandoned: 3, cancelled: 3 })
    await t.throwsAsync(ask, { code: 'ERR_RINGBELL_BUSY', message: /still run after their call was given up/ })
    for (const done of waiting) done()
    await turns(3)
    t.is(server.stats().abandoned, 0)
    const call = ask()
    while (waiting.length < 4) await turns()
    waiting.at(-1)?.()
    t.is(await call, 'done')
  })
}

test('a schema of replies that never answers counts, too', async (t) => {
  const { bus } = fakeBus(t)
  let answer = (): void => {}
  let checks = 0
  const validate = (value: unknown): Promise<{ value: unknown }> => {
    checks++
    return new Promise((done) => (answer = () => done({ value })))
  }
  const replies = { '~standard': { version: 1 as const, vendor: 'test', validate } }
  await bus.serve<number, unknown>('checked', { codec: 'json', maxRequests: 1, replies }, (n) => n)
  const client = await bus.connect<number, unknown>('checked', { codec: 'json' })
  t.deepEqual(await flood(client, 2), ['ABORT_ERR', 'ERR_RINGBELL_BUSY'])
  t.is(checks, 1)
  answer()
  await turns(3)
  const call = client.call(5)
  while (checks < 2) await turns()
  answer()
  t.is(await call, 5)
})

test('handlers that nothing can end are collected, and lock nobody out', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  let started = 0
  const { server, client } = await pair(t, async () => {
    started++
    await new Promise(() => {})
  })
  t.deepEqual(await flood(client, 4), [...Array<string>(3).fill('ABORT_ERR'), 'ERR_RINGBELL_BUSY'])
  while (server.stats().abandoned > 0) {
    collect()
    await turns()
  }
  t.deepEqual(await flood(client, 1), ['ABORT_ERR'])
  t.is(started, 4)
})

test('a client that connects again does not begin anew; other users do not notice', (t) => {
  const link = (uid: number): Link => ({ running: 0, over: false, peer: { pid: 1, uid } }) as unknown as Link
  const end = (one: Link): void => {
    one.over = true
    places.ended(one)
  }
  const places = new Places(MOST_LEFT)
  const first = link(1)
  const taken = Array.from({ length: MOST_LEFT - 1 }, () => places.take(first))
  t.is(places.full(first), undefined)
  end(first)
  const again = link(1)
  t.is(places.full(again), undefined)
  taken.push(places.take(again))
  end(again)
  // A handler that has ended its own connection.
  const late = places.take(again)
  t.regex(places.full(link(1)) ?? '', /of this user still run after their connections have ended/)
  t.is(places.full(link(2)), undefined)
  places.leave(late)
  places.leave(late)
  t.not(places.full(link(1)), undefined)
  for (const one of taken) places.leave(one)
  t.is(places.size, 0)
  t.is(places.full(link(1)), undefined)
})

test('what runs for an ended connection counts until it has settled', async (t) => {
  let done = (): void => {}
  const { server, client, fake } = await pair(t, () => new Promise<void>((settle) => (done = settle)))
  const call = client.call(1).catch(() => {})
  while (server.stats().inHand === 0) await turns()
  fake.made[1]?.die()
  while (server.connections.length > 0) await turns()
  t.like(server.stats(), { inHand: 0, abandoned: 1 })
  done()
  await turns()
  t.is(server.stats().abandoned, 0)
  await client.close()
  await call
})
