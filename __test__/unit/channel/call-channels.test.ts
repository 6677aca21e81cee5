/** The pair of diagnostics channels for calls: one object for the beginning and the end, and nothing changes for the caller. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import test from 'ava'
import type { CallMessage } from 'ringbell'
import { fakeBus } from '../../helpers/fake-channel.js'

test.serial('a call is published when it begins and when it has ended', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('s', { codec: 'json' }, (n) => {
    if (n === 0) throw new RangeError('no')
    return n
  })
  const client = await bus.connect('s', { codec: 'json' })
  const seen: [string, CallMessage][] = []
  const begins = (message: unknown): void => void seen.push(['calling', { ...(message as CallMessage) }])
  const ends = (message: unknown): void => void seen.push(['called', message as CallMessage])
  subscribe('ringbell:client:calling', begins)
  subscribe('ringbell:client:called', ends)
  t.teardown(() => {
    unsubscribe('ringbell:client:calling', begins)
    unsubscribe('ringbell:client:called', ends)
  })
  t.is(await client.call(7), 7)
  const failure = await t.throwsAsync(client.call(0), { message: 'no' })
  const refused = await t.throwsAsync(client.call(1, { timeout: -1 }), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  t.deepEqual(
    seen.map(([when, { request, reply, error }]) => [when, request, reply, error]),
    [
      ['calling', 7, undefined, undefined],
      ['called', 7, 7, undefined],
      ['calling', 0, undefined, undefined],
      ['called', 0, undefined, failure],
      ['calling', 1, undefined, undefined],
      ['called', 1, undefined, refused],
    ],
  )
  t.true(seen.every(([, message]) => message.client === (client as unknown)))
})

test.serial('without a subscriber nothing is published', async (t) => {
  const { bus } = fakeBus(t)
  await bus.serve('s', { codec: 'json' }, (n) => n)
  const client = await bus.connect('s', { codec: 'json' })
  t.is(await client.call(7), 7)
})
