/** Two sides with different codecs: a wait says why nothing comes, and a process warning says it if there is no listener. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Bus, type RingbellError } from 'ringbell'

async function opened(t: ExecutionContext): Promise<Bus> {
  const path = mkdtempSync(join(tmpdir(), 'ringbell-mismatch-'))
  const bus = await Bus.open({ path })
  t.teardown(async () => {
    await bus.close()
    rmSync(path, { recursive: true })
  })
  return bus
}

/** The warning that comes once the mismatch is known. */
function warned(codes: string[]): Promise<Error> {
  return new Promise((resolve) => {
    process.on('warning', function listener(warning) {
      const { code } = warning as { code?: string }
      if (code !== 'RINGBELL_FAILED') return
      codes.push(code)
      process.off('warning', listener)
      resolve(warning)
    })
  })
}

test.serial('a subscriber with another codec', async (t) => {
  const bus = await opened(t)
  await bus.publisher('ticks', { codec: 'json' })
  const codes: string[] = []
  const warning = warned(codes)
  const ticks = await bus.subscriber('ticks', { codec: 'structured' })
  const over = new AbortController()
  const { signal } = over
  const waits = [ticks.attached({ signal }), ticks.receive({ signal })]
  t.regex((await warning).message, /^There is no listener for 'failed' of this subscriber: .*json/)
  over.abort()
  for (const wait of waits)
    await t.throwsAsync(wait, { name: 'AbortError', message: /^The operation was aborted: .*json.*structured/ })
  const later = new AbortController()
  const next = ticks.messages({ signal: later.signal }).next()
  later.abort()
  await t.throwsAsync(next, { message: /json.*structured/ })
  t.is(codes.length, 1)
})

test.serial('a subscriber that expects another schema', async (t) => {
  const bus = await opened(t)
  // A listener does not keep the process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const publisher = await bus.publisher('ticks', { schemaId: 'tick/1' })
  const same = await bus.subscriber('ticks', { schemaId: 'tick/1' })
  await Promise.all([same.attached(), publisher.attached()])
  const other = await bus.subscriber('ticks', { schemaId: 'tick/2' })
  const [error] = (await once(other, 'failed')) as [RingbellError]
  t.is(error.code, 'ERR_RINGBELL_REFUSED')
  t.regex(
    error.message,
    /'ticks' of process \d+ has the schema id tick\/1, but this side expects tick\/2; give both the same/,
  )
  await bus.publisher('plain')
  const picky = await bus.subscriber('plain', { schemaId: 'tick/1' })
  t.regex(
    ((await once(picky, 'failed')) as [Error])[0].message,
    /the schema id \(none\), but this side expects tick\/1/,
  )
  t.is(publisher.subscribers, 1)
})

test.serial('one publisher is attached, and another one is refused', async (t) => {
  const bus = await opened(t)
  await bus.publisher('ticks', { codec: 'json' })
  const ticks = await bus.subscriber('ticks', { codec: 'json' })
  await ticks.attached()
  const over = new AbortController()
  const both = ticks.attached({ count: 2, signal: over.signal })
  const failed = once(ticks, 'failed')
  await bus.publisher('ticks', { codec: 'structured' })
  await failed
  over.abort()
  await t.throwsAsync(both, { name: 'AbortError', message: /aborted: .*structured.*json/ })
  const later = new AbortController()
  const next = ticks.receive({ signal: later.signal })
  later.abort()
  await t.throwsAsync(next, { message: 'The operation was aborted' })
})

test.serial('a client with another codec', async (t) => {
  const bus = await opened(t)
  await bus.serve('echo', { codec: 'json' }, (x) => x)
  const warning = warned([])
  const client = await bus.connect<unknown, unknown>('echo', { codec: 'structured' })
  const over = new AbortController()
  const { signal } = over
  const waits = [client.connected({ signal }), client.call(1, { signal })]
  t.regex((await warning).message, /'failed' of this client: 'echo' of process \d+ has the codec json/)
  over.abort()
  for (const wait of waits) await t.throwsAsync(wait, { message: /aborted: 'echo' .* json, but this side expects/ })
})
