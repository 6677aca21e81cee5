/** The examples run as they stand and print what they say; the demo loses nothing, ends by itself, and leaves nothing behind. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { Bus } from 'ringbell'
import { Child } from '../helpers/child.js'
import { PATIENCE_MS } from '../helpers/patience.js'
import { until } from '../helpers/place.js'

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url))

/** An example as a process, with temporary folders of its own. */
class Example extends Child {
  constructor(t: ExecutionContext, name: string, folder: string, args: readonly string[] = []) {
    t.timeout(PATIENCE_MS + 10_000)
    const command = name.endsWith('.py') ? 'python3' : process.execPath
    super(command, [join(EXAMPLES, name), ...args], { env: { IPC_BUS_DIR: join(folder, 'bus'), TMPDIR: folder } })
    this.process.stdin.end()
    t.teardown(() => this.ended())
  }

  /** What it printed, and its complaints. */
  get output(): string {
    return this.stdout.toString() + this.stderr
  }
}

function folderFor(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-examples-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

test.serial('quickstart: two processes that know only a name', async (t) => {
  const folder = folderFor(t)
  const subscriber = new Example(t, 'quickstart/subscriber.mjs', folder)
  const publisher = new Example(t, 'quickstart/publisher.mjs', folder)
  await subscriber.shows(/^(tick (\d+) \(message \d+ of [0-9a-f]{8}\)\n){2}/)
  t.is(publisher.output, '')
})

test.serial('calls: two processes, many calls, a stream and an error', async (t) => {
  const folder = folderFor(t)
  const server = new Example(t, 'calls/server.mjs', folder)
  const client = new Example(t, 'calls/client.mjs', folder)
  const { code } = await client.end
  const { output } = client
  t.is(code, 0, output)
  t.regex(
    output,
    /^the sum is 42\n1000 calls at once, the last one says 1998\n(counting down: [321]\n){3}an error keeps its code: ERR_UNKNOWN_QUESTION, .*\nand again 1\n$/,
  )
  t.regex(server.output, /^serving example.maths as process \d+\n$/)
})

test.serial('price: primaries are killed, and no call is lost', async (t) => {
  const example = new Example(t, 'price/main.mjs', folderFor(t), ['2'])
  const { code } = await example.end
  const { output } = example
  t.is(code, 0, output)
  t.regex(
    output,
    /^\d+ calls, 2 kills of the primary, \d+ primaries have answered\nfrom SIGKILL to the next answer: .*\nfailed calls: none\n$/,
  )
})

/** Where there is no Python the test is skipped, and the summary says so. */
const python = spawnSync('python3', ['--version']).status === 0 ? test.serial : test.serial.skip

python('python/subscriber.py: a topic from another language, over a stream', async (t) => {
  const folder = folderFor(t)
  const bus = await Bus.open({ path: join(folder, 'bus') })
  t.teardown(() => bus.close())
  const publisher = await bus.publisher('example.ticks', { capacity: 4096 })
  publisher.send(Buffer.from('before anybody came'))
  const subscriber = new Example(t, 'python/subscriber.py', folder, ['example.ticks'])
  await until(() => publisher.subscribers === 1 || subscriber.process.exitCode !== null)
  const texts = Array.from({ length: 2000 }, (_, number) => `tick ${number} ${'.'.repeat(number % 50)}`)
  for (const text of texts) while (!publisher.send(Buffer.from(text))) await publisher.ready({ bytes: 100 })
  t.like(publisher.stats().subscribers[0], { rung: 'stream', pid: subscriber.process.pid })
  await publisher.close()
  const { code } = await subscriber.end
  const { output } = subscriber
  t.is(code, 0, output)
  t.is(output, ['before anybody came', ...texts].map((text, sequence) => `${sequence} ${text}\n`).join(''))
})

const PRINTED: Readonly<Record<string, RegExp>> = {
  'json.mjs': /^reading 0: cpu has 61.5 °C\nreading 1: disk has 38 °C\n.*: ERR_RINGBELL_REFUSED\n$/,
  'back-pressure.mjs':
    /^publisher: {2}sent 1000 messages, waited [1-9]\d* times for room\nsubscriber: received 1000 messages, missed 0\n$/,
  'pass-socket.mjs':
    /^receiver: got 'the web socket' and serves on it\nsender: {3}we closed it, and the other process answers\n$/,
  'work-queue.mjs':
    // The queue may hear of the death before the parent does.
    /^(?:a worker died \(the clumsy one\)\n|job \d+ was somebody else's before, and is done now\n){2}30 jobs done, 1 of them delivered twice, none lost\n$/,
  'lease.mjs': /^200 frames of 1 MiB, \d+\.\d GB\/s, none copied\n$/,
  'watch-services.mjs':
    /^example.api is to be found at unix:.*\nadded .*: starting\nupdated .*: ready\nremoved .*: ready\n$/,
}

for (const [name, printed] of Object.entries(PRINTED)) {
  test.serial(`${name} prints what it promises`, async (t) => {
    const example = new Example(t, name, folderFor(t))
    const { code } = await example.end
    const { output } = example
    t.is(code, 0, output)
    t.regex(output, printed)
  })
}

test.serial('demo: a successor replaces the killed publisher, nothing is lost', async (t) => {
  const folder = folderFor(t)
  const client = new Example(t, 'demo/main.js', folder)
  const { code } = await client.end
  const { output } = client
  t.is(code, 0, output)
  for (const part of [
    /SIGKILL/,
    /removed .* [\d.]+ ms after the kill/,
    /drained .*[1-9][\d,]* readings/,
    /(attached [^]*){2}/,
  ])
    t.regex(output, part)
  for (const [, committed, received] of output.matchAll(/committed ([\d,]+) readings; received: (.*)/g)) {
    t.is(received, ['dashboard', 'meter', 'checker'].map((name) => `${name} ${committed}`).join(', '))
  }
  t.regex(output, /\n0 lost, 0 out of order or torn, of [1-9][\d,]+ readings delivered\n$/)
  t.deepEqual(readdirSync(folder), [])
})

test.serial('demo: Ctrl-C in the middle leaves neither processes nor files', async (t) => {
  const folder = folderFor(t)
  const demo = new Example(t, 'demo/main.js', folder)
  await demo.shows(/attached/)
  const pids = [...demo.output.matchAll(/publisher (\d+) appeared/g)].map(([, pid]) => Number(pid))
  t.is(pids.length, 1)
  demo.process.kill('SIGINT')
  const { code } = await demo.end
  const { output } = demo
  t.is(code, 130, output)
  t.false(output.includes('failed'), output)
  t.deepEqual(readdirSync(folder), [])
  for (const pid of pids) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})
