/** The diagnostics channels of claims: each claim that is held is told of once at its begin and once at its end. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import test from 'ava'
import type { DiagnosticsChannel, DiagnosticsMessages } from 'ringbell'
import { place } from '../../helpers/place.js'

const CHANNELS = ['ringbell:claim:held', 'ringbell:claim:released', 'ringbell:claim:lost'] as const

test.serial('held, released, lost', async (t) => {
  const at = place(t)
  const told: [string, string][] = []
  for (const name of CHANNELS) {
    const listen = (message: unknown, channel: string | symbol): void => {
      const { claim } = message as DiagnosticsMessages['ringbell:claim:held']
      told.push([String(channel), claim.name])
    }
    subscribe(name satisfies DiagnosticsChannel, listen)
    t.teardown(() => unsubscribe(name, listen))
  }
  const [bus, other] = [await at.bus(), await at.bus()]
  const first = await bus.claim('first')
  t.is(await other.claim('first', { ifAvailable: true }), undefined)
  await t.throwsAsync(other.claim('first', { signal: AbortSignal.timeout(1) }))
  await first.release()
  await first.release()
  const state = await bus.state('second')
  await state.close()
  const third = await bus.claim('third')
  let reason: unknown
  const lost = (message: unknown): void => {
    reason = (message as DiagnosticsMessages['ringbell:claim:lost']).reason
  }
  subscribe('ringbell:claim:lost', lost)
  t.teardown(() => unsubscribe('ringbell:claim:lost', lost))
  await bus.close()
  t.is(reason, await third.lost)
  t.deepEqual(told, [
    ['ringbell:claim:held', 'first'],
    ['ringbell:claim:released', 'first'],
    ['ringbell:claim:held', 'second'],
    ['ringbell:claim:released', 'second'],
    ['ringbell:claim:held', 'third'],
    ['ringbell:claim:lost', 'third'],
  ])
})
