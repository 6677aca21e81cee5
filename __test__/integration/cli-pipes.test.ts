/** `some-command | ringbell pub` and `ringbell sub | some-command`: nothing is lost, nothing is changed, and both end. */
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test from 'ava'
import { Bus } from 'ringbell'
import { attached, type Inspected, scene, values } from '../helpers/cli-process.js'

function numbers(from: number, to: number): string {
  let text = ''
  for (let n = from; n <= to; n++) text += `${n}\n`
  return text
}

test('every line arrives in order, also empty and unterminated ones', async (t) => {
  const { start, run } = scene(t)
  const input = `${numbers(1, 50_000)}\n\nümläut\r\nno newline at the end`
  const sub = start(['sub', 'lines', '--until-closed'])
  const pub = await run(['pub', 'lines', '--wait-subscriber'], input)
  t.deepEqual([pub.code, pub.stderr, pub.stdout.toString()], [0, '', ''])
  const { code, stdout, stderr } = await sub.end
  t.deepEqual([code, stderr], [0, ''])
  t.true(stdout.equals(Buffer.from(`${input}\n`)))
})

test('binary frames keep any bytes and lengths', async (t) => {
  const { start, run } = scene(t)
  const frames = Array.from({ length: 500 }, (_, n) => randomBytes(n % 7 === 0 ? 0 : (n * 131) % 20_000))
  const input = Buffer.concat(frames.flatMap((frame) => [Buffer.from(new Uint32Array([frame.length]).buffer), frame]))
  const sub = start(['sub', 'frames', '--binary', '--until-closed'])
  const pub = await run(['pub', 'frames', '--binary', '--wait-subscriber'], input)
  t.is(pub.code, 0, pub.stderr)
  t.true((await sub.end).stdout.equals(input))
})

test('a reader that stands still stops the publisher, and loses nothing', async (t) => {
  const stage = scene(t)
  const input = numbers(1, 300_000)
  const sub = stage.start(['sub', 'slow', '--until-closed'], { paused: true })
  const pub = stage.start(['pub', 'slow', '--capacity', '64K'])
  await attached(stage, 'slow')
  pub.feed(input)
  await stage.until<Inspected[]>(['inspect', 'slow'], ([topic]) => (topic?.source?.publisher.full ?? 0) > 0)
  const [before] = await stage.until<Inspected[]>(['inspect', 'slow'], () => true)
  t.true(pub.running)
  t.true((before?.source?.publisher.messages ?? 0) < 300_000)
  sub.read()
  const { code, stdout, stderr } = await sub.end
  t.deepEqual([code, stderr], [0, ''])
  t.true(stdout.equals(Buffer.from(input)))
  t.is((await pub.end).code, 0)
})

test('all subscribers get everything, and pub waits for all of them', async (t) => {
  const stage = scene(t)
  const input = numbers(1, 100_000)
  const subs = Array.from({ length: 3 }, () => stage.start(['sub', 'many', '--until-closed']))
  const pub = stage.start(['pub', 'many', '--capacity', '64K'])
  await attached(stage, 'many', 3)
  pub.feed(input)
  t.is((await pub.end).code, 0)
  for (const sub of subs) t.true((await sub.end).stdout.equals(Buffer.from(input)))
})

test('pub waits at the end for a subscriber that lags; --no-drain does not', async (t) => {
  const stage = scene(t)
  for (const options of [[], ['--no-drain']]) {
    const topic = `drain${options.length}`
    const sub = stage.start(['sub', topic, '--until-closed'], { paused: true })
    // More than a pipe takes, less than the ring.
    const input = `${'x'.repeat(999)}\n`.repeat(900)
    const pub = stage.start(['pub', topic, ...options])
    await attached(stage, topic)
    pub.feed(input)
    if (options.length === 0) {
      await stage.until<Inspected[]>(['inspect', topic], ([one]) => (one?.source?.publisher.messages ?? 0) === 900)
      t.true(pub.running)
    } else {
      t.is((await pub.end).code, 0)
      t.true(sub.running)
    }
    sub.read()
    t.is((await pub.end).code, 0)
    t.true((await sub.end).stdout.equals(Buffer.from(input)))
  }
})

test('earliest gives what the ring still holds', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'past'])
  pub.process.stdin.write(numbers(1, 10))
  await stage.until<Inspected[]>(['inspect', 'past'], ([topic]) => topic?.source?.publisher.messages === 10)
  const { code, stdout } = await stage.run(['sub', 'past', '--from', 'earliest', '--count', '10'])
  t.is(code, 0)
  t.is(stdout.toString(), numbers(1, 10))
})

test('pub sends headers with each message, also with one in pieces, and sub shows them', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'headed', '--until-closed', '--json'])
  const shown = stage.start(['sub', 'headed', '--until-closed', '--prefix'])
  const pub = stage.start(['pub', 'headed', '--capacity', '4K', '-H', 'tenant=acme', '-H', 'kind=a b'])
  await attached(stage, 'headed', 2)
  pub.process.stdin.end(`one\n${'x'.repeat(5000)}\n`)
  t.is((await pub.end).code, 0)
  const messages = (await sub.end).stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object)
  const headers = { tenant: 'acme', kind: 'a b' }
  t.like(messages, { 0: { text: 'one', headers }, 1: { text: 'x'.repeat(5000), headers }, length: 2 })
  t.regex((await shown.end).stdout.toString(), /  headed  \[tenant=acme kind=a b\]  one\n/)
})

test('sub --durable resumes behind what was printed', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'ledger'])
  const first = stage.start(['sub', 'ledger', '--durable', 'billing', '--count', '4'])
  await attached(stage, 'ledger')
  pub.process.stdin.write(numbers(1, 10))
  const { code, stdout, stderr } = await first.end
  t.deepEqual([code, stdout.toString(), stderr], [0, numbers(1, 4), ''])
  const second = await stage.run(['sub', 'ledger', '-d', 'billing', '-n', '3'])
  t.is(second.stdout.toString(), numbers(5, 7))
  const third = stage.start(['sub', 'ledger', '-d', 'billing', '--ack', 'batch', '--until-closed'])
  await attached(stage, 'ledger')
  pub.process.stdin.end()
  t.is((await third.end).stdout.toString(), numbers(8, 10))
  t.is((await pub.end).code, 0)
  const refused = await stage.run(['sub', 'ledger', '--durable', 'no spaces'])
  t.is(refused.code, 2, refused.stderr)
})

test('pub does not wait at its end for a durable subscriber that has gone', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'ledger'])
  const sub = stage.start(['sub', 'ledger', '--durable', 'billing', '--count', '1'])
  await attached(stage, 'ledger')
  pub.process.stdin.write(numbers(1, 10))
  await sub.end
  pub.process.stdin.end()
  t.is((await pub.end).code, 0)
})

test('drop-newest and drop-oldest report how many messages were dropped', async (t) => {
  const stage = scene(t)
  const input = numbers(1, 200_000)
  for (const overflow of ['drop-newest', 'drop-oldest']) {
    const sub = stage.start(['sub', overflow, '--until-closed', '--json'], { paused: true })
    const pub = stage.start([
      'pub',
      overflow,
      '--overflow',
      overflow,
      '--capacity',
      '4K',
      '--wait-subscriber',
      '--no-drain',
      '--json',
    ])
    const { stdout } = await pub.feed(input).end
    const summary = JSON.parse(stdout.toString()) as { messages: number; dropped: number }
    sub.read()
    const end = await sub.end
    const received = end.stdout.toString().split('\n').length - 1
    const missed = end.stderr
      .split('\n')
      .filter((line) => line.includes('"missed"'))
      .reduce((sum, line) => sum + (JSON.parse(line) as { messages: number }).messages, 0)
    t.is(summary.messages + summary.dropped, 200_000, overflow)
    t.is(received + missed, summary.messages, overflow)
    t.true(
      overflow === 'drop-newest' ? summary.dropped > 0 && missed === 0 : summary.dropped === 0 && missed > 0,
      overflow,
    )
  }
})

test('a rate is an upper limit', async (t) => {
  const { run } = scene(t)
  const { code, stdout } = await run(['pub', 'slowly', '--rate', '200', '--json'], numbers(1, 100))
  t.is(code, 0)
  const { messages, seconds } = JSON.parse(stdout.toString()) as { messages: number; seconds: number }
  t.is(messages, 100)
  t.true(seconds > 0.45, `${seconds} s`)
})

test('a line larger than the ring arrives like any other', async (t) => {
  const { start, run } = scene(t)
  const input = `one\n${'x'.repeat(5_000_000)}\nthree\n`
  const sub = start(['sub', 'long', '--until-closed'])
  const { code, stderr } = await run(['pub', 'long', '--capacity', '4K', '--wait-subscriber'], input)
  t.deepEqual([code, stderr], [0, ''])
  t.true((await sub.end).stdout.equals(Buffer.from(input)))
})

test('a large input is published also while no subscriber is attached', async (t) => {
  const { run } = scene(t)
  const { code, stdout } = await run(['pub', 'zeros', '--json'], Buffer.alloc(3_000_000))
  t.is(code, 0)
  const { messages, bytes } = JSON.parse(stdout.toString()) as { messages: number; bytes: number }
  t.deepEqual([messages, bytes], [1, 3_000_000])
})

test('one message from the command line, from a file, from all of stdin', async (t) => {
  const stage = scene(t)
  const file = join(stage.bus, '..', `${basename(stage.bus)}.bin`)
  const blob = randomBytes(100_000)
  writeFileSync(file, blob)
  t.teardown(() => rmSync(file))
  const frame = (bytes: Uint8Array): Buffer =>
    Buffer.concat([Buffer.from(new Uint32Array([bytes.length]).buffer), bytes])
  const cases: [args: string[], input: string, message: Uint8Array][] = [
    [['hello world'], 'not read', Buffer.from('hello world')],
    [['-'], 'from stdin\n', Buffer.from('from stdin')],
    [['--whole', '--file', file], '', blob],
    [['--whole'], 'two\nlines\n', Buffer.from('two\nlines\n')],
    [['--whole'], '', Buffer.alloc(0)],
  ]
  for (const [args, input, message] of cases) {
    const sub = stage.start(['sub', 'one', '--binary', '--until-closed'])
    const { code, stderr } = await stage.run(['pub', 'one', '--wait-subscriber', ...args], input)
    t.deepEqual([code, stderr], [0, ''], args.join(' '))
    t.true((await sub.end).stdout.equals(frame(message)), args.join(' '))
  }
  for (const [args, code] of [
    [['hello', '--file', file], 2],
    [['hello', '--binary'], 2],
    [['--whole', '--binary'], 2],
    [['--file', '/no/such/file', '--wait-subscriber'], 1],
  ] as const)
    t.is((await stage.run(['pub', 'one', ...args])).code, code, args.join(' '))
})

test('a line that is too large for the ring is refused with its number, unless the topic is block', async (t) => {
  const { start, run } = scene(t)
  const sub = start(['sub', 'long', '--until-closed'])
  const { code, stderr } = await run(
    ['pub', 'long', '--capacity', '4K', '--overflow', 'drop-oldest', '--wait-subscriber'],
    `one\ntwo\n${'x'.repeat(5000)}\nfour\n`,
  )
  t.is(code, 1)
  t.regex(stderr, /^ringbell: Line 3 .*--capacity \(ERR_RINGBELL_MESSAGE_TOO_LARGE\)\n$/)
  t.is((await sub.end).stdout.toString(), 'one\ntwo\n')
})

test('an input that ends in the middle of a frame is an error', async (t) => {
  const { run } = scene(t)
  const { code, stderr } = await run(['pub', 'cut', '--binary'], Buffer.from([9, 0, 0, 0, 1, 2]))
  t.is(code, 1)
  t.regex(stderr, /middle of frame 1 \(ERR_TRUNCATED_INPUT\)/)
})

test('a killed publisher: sub prints the rest and exits with 1', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'dies', '--until-closed'])
  const pub = stage.start(['pub', 'dies'])
  await attached(stage, 'dies')
  pub.process.stdin.write(numbers(1, 1000))
  await sub.shows('1000\n')
  pub.process.kill('SIGKILL')
  const { code, stdout, stderr } = await sub.end
  t.is(code, 1)
  t.is(stdout.toString(), numbers(1, 1000))
  t.regex(stderr, /^ringbell: dies@[0-9a-f]{8}: its process \d+ died\n$/)
})

test('publishers that come and go are followed, also by a pattern', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'sensors.*', '--json', '--count', '3'])
  for (const name of ['sensors.cpu', 'others.disk', 'sensors.fan', 'sensors.cpu']) {
    if (name.startsWith('others')) t.is((await stage.run(['pub', name], 'x\n')).code, 0)
    else t.is((await stage.run(['pub', name, '--wait-subscriber'], `${name}\n`)).code, 0)
  }
  const { code, stdout } = await sub.end
  t.is(code, 0)
  const topics = stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { topic: string }).topic)
  t.deepEqual(topics, ['sensors.cpu', 'sensors.fan', 'sensors.cpu'])
})

test('lines of a pattern begin with wall clock and topic, lines of a name do not', async (t) => {
  const stage = scene(t)
  const lines = (args: string[]): Promise<string> =>
    stage.start(['sub', ...args, '-n', '1']).end.then(({ stdout }) => stdout.toString())
  const shown = [lines(['m.*']), lines(['m.*', '--no-prefix']), lines(['m.one']), lines(['m.one', '--prefix'])]
  const pub = stage.start(['pub', 'm.one'])
  await attached(stage, 'm.one', 4)
  pub.feed('hello\n')
  const [pattern, bare, name, prefixed] = await Promise.all(shown)
  t.regex(pattern ?? '', /^\d\d:\d\d:\d\d\.\d{3} {2}m\.one {2}hello\n$/)
  t.is(bare, 'hello\n')
  t.is(name, 'hello\n')
  t.regex(prefixed ?? '', /^\d\d:\d\d:\d\d\.\d{3} {2}m\.one {2}hello\n$/)
})

test('structured values are shown, published and called as text', async (t) => {
  const stage = scene(t)
  const bus = await Bus.open({ path: stage.bus })
  t.teardown(() => bus.close())
  const publisher = await bus.publisher('values', { codec: 'structured' })
  const [plain, json] = [stage.start(['sub', 'values', '-n', '3']), stage.start(['sub', 'values', '-n', '3', '--json'])]
  await attached(stage, 'values', 2)
  for (const value of [{ a: [1, 'x'] }, new Map([['key', 1n]]), new Date(0)]) publisher.send(value)
  t.is((await plain.end).stdout.toString(), `{"a":[1,"x"]}\nMap(1) { 'key' => 1n }\n1970-01-01T00:00:00.000Z\n`)
  t.deepEqual(
    values<{ value?: unknown; text?: string }>((await json.end).stdout).map(({ value, text }) => value ?? text),
    [{ a: [1, 'x'] }, "Map(1) { 'key' => 1n }", '1970-01-01T00:00:00.000Z'],
  )
  const subscriber = await bus.subscriber('made', { codec: 'structured' })
  const pub = stage.run(['pub', 'made', '--codec', 'structured', '-w', '{"n":1}'])
  t.deepEqual((await subscriber.receive()).value, { n: 1 })
  await subscriber.close()
  t.is((await pub).code, 0)
  t.is((await stage.run(['pub', 'made', '--codec', 'structured', 'no json'])).code, 1)
  await bus.serve('double', { codec: 'structured' }, (n) => (n as number) * 2)
  t.is((await stage.run(['call', 'double', '21'])).stdout.toString(), '42\n')
  stage.start(['serve', 'echo', '--codec', 'structured', '--', 'cat'])
  const client = await bus.connect('echo', { codec: 'structured' })
  t.deepEqual(await client.call({ deep: [{ x: 1 }] }), { deep: [{ x: 1 }] })
})
