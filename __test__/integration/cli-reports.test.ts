/** What the CLI reports, for people and with --json: lists, records with counters, events, rates, findings, measurements. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { attached, type Inspected, scene, values } from '../helpers/cli-process.js'

interface Printed {
  topic: string
  publisher: string
  sequence: number
  time: string
  at: string
  text?: string
  base64?: string
  value?: unknown
}

test('sub --json has sequence, time, publisher, and a form for every payload', async (t) => {
  const { start, run } = scene(t)
  const sub = start(['sub', 'mixed', '--json', '-n', '3'])
  const frames = [Buffer.from('plain "text"'), Buffer.from([0xff, 0x00]), Buffer.from('ü')]
  const input = Buffer.concat(frames.flatMap((frame) => [Buffer.from(new Uint32Array([frame.length]).buffer), frame]))
  const begin = process.hrtime.bigint()
  const before = Date.now()
  const pub = await run(['pub', 'mixed', '--binary', '-w', '--json'], input)
  const summary = JSON.parse(pub.stdout.toString()) as { publisher: string; messages: number; bytes: number }
  t.deepEqual([summary.messages, summary.bytes], [3, 16])
  const printed = values<Printed>((await sub.end).stdout)
  t.deepEqual(
    printed.map(({ sequence }) => sequence),
    [0, 1, 2],
  )
  t.deepEqual(
    printed.map(({ text, base64 }) => text ?? base64),
    ['plain "text"', '/wA=', 'ü'],
  )
  for (const { topic, publisher, time, at } of printed) {
    t.deepEqual([topic, publisher], ['mixed', summary.publisher])
    // A JSON number would lose digits on a machine that has run for a long time.
    t.regex(time, /^\d+$/)
    t.true(BigInt(time) >= begin && BigInt(time) <= process.hrtime.bigint())
    // The clocks are read one after the other, in milliseconds.
    t.true(Date.parse(at) >= before - 1 && Date.parse(at) <= Date.now() + 1, at)
  }
})

test('sub prints a JSON topic as values', async (t) => {
  const { start, run } = scene(t)
  const sub = start(['sub', 'readings', '--json', '-n', '2'])
  t.is((await run(['pub', 'readings', '--codec', 'json', '-w'], '{"celsius":61.5}\nno json\n')).code, 0)
  const [first, second] = values<Printed>((await sub.end).stdout)
  t.deepEqual(first?.value, { celsius: 61.5 })
  t.is(second?.text, 'no json')
})

test('the id of a schema is announced and shown', async (t) => {
  const stage = scene(t)
  stage.start(['pub', 'a', '--schema-id', 'a/1'])
  stage.start(['push', 'b', '--schema-id', 'b/1'])
  stage.start(['serve', 'c', '--schema-id', 'c/1', '--', 'cat'])
  type Listed = { name: string; schemaId?: string; record?: { payloadSchema?: string } }[]
  const found = await stage.until<Listed>(['ls'], (all) => all.length === 3)
  t.deepEqual(
    found.map(({ name, schemaId }) => `${name} ${schemaId}`),
    ['a a/1', 'b b/1', 'c c/1'],
  )
  t.regex((await stage.run(['inspect', 'b'])).stdout.toString(), /schema id +b\/1/)
  t.like(JSON.parse((await stage.run(['inspect', 'c', '--json'])).stdout.toString()), [
    { schemaId: 'c/1', record: { payloadSchema: 'c/1' } },
  ])
})

test('ls lists all, a group, a pattern', async (t) => {
  const stage = scene(t)
  for (const name of ['audio', 'audio.mic', 'audio2', 'video']) stage.start(['pub', name, '--capacity', '8K'])
  type Listed = { name: string; kind: string; id: string; topic: { capacity: number } }[]
  const names = async (args: string[]): Promise<string[]> => {
    const { stdout } = await stage.run(['ls', ...args, '--json'])
    return (JSON.parse(stdout.toString()) as Listed).map(({ name }) => name)
  }
  const all = await stage.until<Listed>(['ls'], (found) => found.length === 4)
  t.deepEqual(
    all.map(({ name }) => name),
    ['audio', 'audio.mic', 'audio2', 'video'],
  )
  t.true(all.every(({ kind, id, topic }) => kind === 'topic' && /^[0-9a-f]{32}$/.test(id) && topic.capacity === 8192))
  t.deepEqual(await names(['audio']), ['audio', 'audio.mic'])
  t.deepEqual(await names(['audio*']), ['audio', 'audio.mic', 'audio2'])
  t.deepEqual(await names(['*.mic']), ['audio.mic'])
  const table = (await stage.run(['ls'])).stdout.toString().split('\n')
  t.regex(table[0] ?? '', /^SERVICE +KIND +PID +TOPIC +CODEC +ID$/)
  t.regex(table[1] ?? '', /^audio +topic +\d+ +8 KiB block +bytes +[0-9a-f]{32}$/)
})

test('inspect shows record, counters, subscribers and the rung', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'looked-at', '--capacity', '64K'])
  const sub = stage.start(['sub', 'looked-at'])
  await attached(stage, 'looked-at')
  pub.process.stdin.write('one\ntwo\n')
  await sub.shows('two\n')
  const [instance] = await attached(stage, 'looked-at')
  t.is(instance?.pid, pub.process.pid)
  const { source } = instance as Required<Inspected>
  t.is(source.publisher.messages, 2)
  t.true(['direct', 'handshake'].includes(source.rung))
  const other = source.subscribers.find(({ slot }) => slot !== source.slot)
  t.deepEqual([other?.pid, other?.state, other?.backlog], [sub.process.pid, 'active', 0])
  const text = (await stage.run(['inspect', 'looked-at'])).stdout.toString()
  for (const part of [
    /^looked-at@[0-9a-f]{32}\n/,
    /ring +64 KiB, block/,
    /sent +2 messages/,
    /acquired by +(direct|handshake)/,
    new RegExp(`\\b${sub.process.pid}  active`),
  ]) {
    t.regex(text, part)
  }
  const record = (await stage.run(['inspect', 'looked-at', '--no-attach', '--json'])).stdout.toString()
  t.false(record.includes('"source"'))
  t.true(record.includes('"nonce"'))
})

test('watch tells services that are there, come, go and die', async (t) => {
  const stage = scene(t)
  const first = stage.start(['pub', 'first'])
  await stage.until<unknown[]>(['ls'], (found) => found.length === 1)
  const watch = stage.start(['watch', '--json', '-n', '4'])
  await watch.shows('"added"')
  const second = stage.start(['pub', 'second'])
  await watch.shows('"second"')
  first.feed('')
  await watch.shows('"removed"')
  second.process.kill('SIGKILL')
  const { code, stdout } = await watch.end
  t.is(code, 0)
  const events = values<{ type: string; at: string; service: { name: string } }>(stdout)
  t.deepEqual(
    events.map(({ type, service }) => `${type} ${service.name}`),
    ['added first', 'added second', 'removed first', 'removed second'],
  )
  t.true(events.every(({ at }) => !Number.isNaN(Date.parse(at))))
})

test('hz reports rates and latencies', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'measured', '--rate', '1000', '--wait-subscriber'])
  pub.process.stdin.write('0123456789\n'.repeat(100_000))
  const { code, stdout } = await stage.run(['hz', 'measured', '-i', '200ms', '-n', '5', '--json'])
  t.is(code, 0)
  const reports = values<{
    topic: string
    messages: number
    messagesPerSecond: number
    bytesPerSecond: number
    latencyP50: number
    latencyP99: number
  }>(stdout)
  t.is(reports.length, 5)
  // On a busy machine an interval may pass in which nobody gets a turn.
  const busy = reports.findLast(({ messages }) => messages > 0)!
  t.is(busy.topic, 'measured')
  t.true(busy.messagesPerSecond > 0)
  t.true(Math.abs(busy.bytesPerSecond / busy.messagesPerSecond - 10) < 0.01)
  t.true(busy.latencyP50 > 0 && busy.latencyP50 <= busy.latencyP99)
  t.regex(
    (await stage.run(['hz', 'measured', '-i', '200ms', '-n', '1'])).stdout.toString(),
    /^measured  \S.*\/s  .*\/s  p50 .* p99 /,
  )
})

test('gc removes files of a killed publisher, and keeps those of live ones', async (t) => {
  const stage = scene(t)
  const [alive, dead] = [stage.start(['pub', 'alive']), stage.start(['pub', 'dead'])]
  await stage.until<unknown[]>(['ls'], (found) => found.length === 2)
  dead.process.kill('SIGKILL')
  await dead.end
  const { stdout } = await stage.run(['gc', '--json'])
  const report = JSON.parse(stdout.toString()) as { records: number; sockets: number; alive: number }
  // Another publisher on the bus may have been quicker: everybody is the janitor.
  t.true(report.records <= 1)
  t.is(report.alive, 1)
  t.is(readdirSync(stage.bus).filter((name) => name.startsWith('dead@')).length, 0)
  t.regex(
    (await stage.run(['gc'])).stdout.toString(),
    /^removed 0 records, 0 sockets, 0 unfinished files; 1 instance alive\n$/,
  )
  t.true(alive.running)
})

test('pub and serve give access to the named users only', async (t) => {
  const stage = scene(t)
  const group = process.getgid?.() ?? 0
  const flags = ['--uids', '7,8', '--gids', '9', '--group', String(group), '--mode', '666']
  stage.start(['pub', 'open', ...flags])
  stage.start(['serve', 'server', ...flags, '--', 'cat'])
  stage.start(['pub', 'grouped', '--group', String(group)])
  stage.start(['pub', 'closed'])
  const all = await stage.until<{ name: string }[]>(['ls'], (found) => found.length === 4)
  const access: Record<string, unknown> = {}
  for (const { name } of all) {
    const [shown] = JSON.parse((await stage.run(['inspect', name, '--no-attach', '--json'])).stdout.toString()) as [
      { record: { access?: unknown } },
    ]
    access[name] = shown.record.access ?? 'none'
  }
  const asTold = { mode: '0666', group, uids: [7, 8], gids: [9] }
  t.deepEqual(access, {
    open: asTold,
    server: asTold,
    grouped: { mode: '0660', group },
    closed: 'none',
  })
})

test('domains are apart', async (t) => {
  const stage = scene(t)
  stage.start(['pub', 'here', '--domain', 'one'])
  await stage.until<unknown[]>(['ls', '--domain', 'one'], (found) => found.length === 1)
  t.is((await stage.run(['ls', '--json'])).stdout.toString(), '[]\n')
  const other = await stage.run(['ls', '--domain', 'two', '--json'])
  t.deepEqual([other.code, other.stdout.toString()], [3, ''])
})

test('commands that only look make no directory, and say that there is none', async (t) => {
  const stage = scene(t)
  for (const args of [
    ['ls'],
    ['inspect', 'x'],
    ['stats', 'x'],
    ['gc'],
    ['sub', 'x', '-t', '50ms'],
    ['hz', 'x', '-t', '50ms'],
    ['watch', '-t', '50ms'],
    ['call', 'x', 'y', '-t', '50ms'],
    ['work', 'x', '-t', '50ms'],
  ]) {
    const { code, stderr } = await stage.run([...args, '--domain', 'typo'])
    t.is(code, 3, args.join(' '))
    t.regex(
      stderr,
      /^ringbell: There is no bus directory .*\/typo; the path is from IPC_BUS_DIR .*\(ERR_RINGBELL_NOT_FOUND\)\n$/,
    )
    t.deepEqual(readdirSync(stage.bus), [], args.join(' '))
  }
  const doctor = await stage.run(['doctor', '--domain', 'typo'])
  t.regex(doctor.stdout.toString(), /! {2}bus .*\/typo \(from IPC_BUS_DIR\) is not there yet, and can be made/)
  t.deepEqual(readdirSync(stage.bus), [])
  const empty = await stage.run(['ls'])
  t.deepEqual([empty.code, empty.stderr], [0, `ringbell: No service is on ${stage.bus} (from IPC_BUS_DIR)\n`])
})

test('commands that wait for others wait for the directory as well', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'x', '--domain', 'later', '-n', '1'])
  const watch = stage.start(['watch', '--domain', 'later', '-n', '1'])
  t.is((await stage.run(['pub', 'x', 'hello', '--domain', 'later', '--wait-subscriber'])).code, 0)
  t.is((await sub.end).stdout.toString(), 'hello\n')
  t.regex((await watch.end).stdout.toString(), /added {4}x@/)
})

test('errors, ls and the doctor say what decided the directory', async (t) => {
  const stage = scene(t)
  const where = { env: { IPC_BUS_DIR: '/proc/nothing/here' } }
  for (const args of [['ls'], ['pub', 'x', 'y']]) {
    const { stderr } = await stage.start(args, where).feed('').end
    t.regex(stderr, /\/proc\/nothing\/here.*; the path is from IPC_BUS_DIR/, args.join(' '))
  }
  t.regex((await stage.run(['ls', 'nobody'])).stderr, /No service of 'nobody' is on .* \(from IPC_BUS_DIR\) \(ERR_/)
  t.regex((await stage.run(['ls', 'nobody', '--bus', stage.bus])).stderr, /\(as given\)/)
  t.regex((await stage.run(['doctor'])).stdout.toString(), /directory +\S+ \(from IPC_BUS_DIR\), mode/)
})

test('a wrong variable is told by every command, and by the doctor', async (t) => {
  const stage = scene(t)
  const env = { IPC_BUS_ACQUIRE: 'pigeon' }
  const { code, stderr } = await stage.start(['ls'], { env }).feed('').end
  t.is(code, 2)
  t.regex(stderr, /^ringbell: Option IPC_BUS_ACQUIRE has the wrong value pigeon: it must be 'auto', 'direct', /)
  const { stdout } = await stage.start(['doctor'], { env }).feed('').end
  t.regex(stdout.toString(), /✗ {2}bus .*IPC_BUS_ACQUIRE.*\n +→ correct the option or variable/)
})

test('the doctor looks for services on the other buses of this user', async (t) => {
  const stage = scene(t)
  const other = join(stage.bus, 'ipc-bus')
  const lonely = stage.start(['pub', 'lonely', '--bus', other])
  await stage.until<unknown[]>(['ls', '--bus', other], (found) => found.length === 1)
  const env = { IPC_BUS_DIR: '', XDG_RUNTIME_DIR: stage.bus }
  const doctor = await stage.start(['doctor', '--bus', join(stage.bus, 'own')], { env }).feed('').end
  t.regex(doctor.stdout.toString(), new RegExp(`! {2}places .*1 service on ${other}`))
  t.regex(
    doctor.stdout.toString(),
    /→ processes find each other only on the same bus: give all of them the same IPC_BUS_DIR/,
  )
  lonely.feed('')
  await lonely.end
})

test('doctor checks the machine, sends a message, and leaves nothing', async (t) => {
  const stage = scene(t)
  const { code, stdout } = await stage.run(['doctor', '--json'])
  const { status, checks } = JSON.parse(stdout.toString()) as {
    status: string
    checks: { check: string; status: string; advice: string }[]
  }
  t.is(code, status === 'fail' ? 1 : 0)
  const names = checks.map(({ check }) => check)
  for (const name of [
    'node',
    'event-loop',
    'kernel',
    'yama',
    'seccomp',
    'doorbells',
    'barriers',
    'inotify',
    'directory',
    'leftovers',
    'places',
    'acquisition',
    'try-direct',
    'sockets',
    'try-handshake',
    'try-stream',
  ])
    t.true(names.includes(name), name)
  t.is(checks.find(({ check }) => check === 'try-handshake')?.status, 'ok')
  t.is(checks.find(({ check }) => check === 'try-stream')?.status, 'ok')
  t.true(checks.every((check) => check.status === 'ok' || check.advice !== ''))
  t.deepEqual(readdirSync(stage.bus), [])
  t.regex((await stage.run(['doctor'])).stdout.toString(), /^[✓!✗] {2}node {2}/)
})

test('doctor says what is wrong with the bus directory', async (t) => {
  const { run } = scene(t)
  const { code, stdout } = await run(['doctor', '--bus', '/proc/nothing/here'])
  t.is(code, 1)
  t.regex(stdout.toString(), /✗ {2}bus .*\(ERR_RINGBELL_\w+\)\n +→ choose another directory/)
})

test('bench measures throughput and round trips', async (t) => {
  const { run } = scene(t)
  const { code, stdout } = await run(['bench', '--duration', '100ms', '--json'])
  t.is(code, 0)
  const { machine, results } = JSON.parse(stdout.toString()) as {
    machine: { node: string }
    results: { kind: string; messages?: number; p50?: number; p99?: number }[]
  }
  t.is(machine.node, process.version)
  t.deepEqual(
    results.map(({ kind }) => kind),
    ['throughput', 'throughput', 'round trip', 'round trip'],
  )
  for (const { messages, p50, p99 } of results) t.true(messages === undefined ? p50! > 0 && p50! <= p99! : messages > 0)
})
