/** How the CLI ends: documented exit codes, errors as one sentence with a code, clean closing on signals and closed pipes. */
import { readdirSync } from 'node:fs'
import test from 'ava'
import { Child } from '../helpers/child.js'
import { attached, type Inspected, MAIN, scene } from '../helpers/cli-process.js'

const ESCAPE = String.fromCharCode(27)

test('a wrong command line is exit code 2 and a sentence', async (t) => {
  const { run } = scene(t)
  const wrong = [
    ['pub'],
    ['frobnicate'],
    ['sub', 'x', '--count', '0'],
    ['sub', 'x', '--from', 'yesterday'],
    ['hz', 'x', '--interval', '3 parsecs'],
    ['pub', 'not a name'],
    ['pub', 'x', '--capacity', '5000'],
    ['pub', 'x', '--overflow', 'drop-newest', '--evict-after', '1s'],
    ['sub', 'bad@name'],
    ['--domain', '../etc', 'ls'],
    ['help', 'nonsense'],
    ['completion', 'csh'],
  ]
  for (const args of wrong) {
    const { code, stdout, stderr } = await run(args)
    t.is(code, 2, args.join(' '))
    t.is(stdout.toString(), '')
    t.regex(stderr, /^ringbell: .+ \(ERR_RINGBELL_[A-Z_]+\)\n/, args.join(' '))
    t.false(stderr.includes('    at '), stderr)
  }
})

test('help and version are no errors', async (t) => {
  const { run } = scene(t)
  for (const flag of ['--version', '-v']) t.regex((await run([flag])).stdout.toString(), /^\d+\.\d+\.\d+\n$/)
  for (const [asked, alike] of [
    [['--help'], ['help']],
    [
      ['sub', '--help'],
      ['help', 'sub'],
    ],
  ] as const) {
    const [one, other] = [await run(asked), await run(alike)]
    t.deepEqual([one.code, one.stderr, other.code, other.stderr], [0, '', 0, ''])
    t.regex(one.stdout.toString(), /^Usage: ringbell [^]*--json/)
    t.deepEqual(one.stdout, other.stdout)
  }
})

test('a reader that has gone is no failure, whatever is written', async (t) => {
  const stage = scene(t)
  for (const args of [
    ['--help'],
    ['--version'],
    ['help', 'pub'],
    ['pub', '--help'],
    ['ls', '--json'],
    ['completion', 'bash'],
  ]) {
    const cli = stage.start(args, { paused: true })
    // This is before the program has begun, so its first write has no reader.
    cli.process.stdout.destroy()
    const { code, signal, stderr } = await cli.end
    t.deepEqual([code, signal, stderr], [0, null, ''], args.join(' '))
  }
  const wrong = stage.start(['frobnicate'], { paused: true })
  wrong.process.stderr.destroy()
  t.is((await wrong.end).code, 2)
})

test('a full disk is a failure, whatever is written', async (t) => {
  for (const args of [['--help'], ['--version'], ['ls', '--json']]) {
    const bus = scene(t).bus
    const shell = new Child('sh', ['-c', 'exec "$@" > /dev/full', 'sh', process.execPath, MAIN, ...args], {
      env: { IPC_BUS_DIR: bus },
    })
    t.teardown(() => shell.ended())
    const { code, stderr } = await shell.end
    t.is(code, 1, args.join(' '))
    t.regex(stderr, /^ringbell: .*ENOSPC.*\(ENOSPC\)\n$/)
  }
})

test('access that permits nobody is a wrong command line', async (t) => {
  const { run } = scene(t)
  for (const access of [
    ['--mode', '777'],
    ['--mode', 'rw'],
    ['--mode', '660'],
    ['--uids', 'root'],
    ['--uids', '1000,'],
    ['--gids', ''],
    ['--group', 'no-such-group'],
    ['--group', '65534'],
  ])
    for (const command of [
      ['pub', 'x'],
      ['serve', 'x', 'cat'],
    ]) {
      const { code, stderr } = await run([...command, ...access], '')
      t.is(code, 2, access.join(' '))
      t.regex(stderr, /\(ERR_RINGBELL_INVALID_OPTION\)\n$/)
    }
})

test('a missing service, or a timeout, is exit code 3', async (t) => {
  const { run } = scene(t)
  for (const args of [
    ['inspect', 'nobody'],
    ['ls', 'nobody'],
    ['sub', 'nobody', '-t', '50ms'],
    ['hz', 'nobody', '-t', '50ms'],
    ['hz', 'nobody', '-n', '1', '-i', '50ms'],
    ['hz', 'no*body', '-n', '1', '-i', '50ms'],
    ['watch', '-t', '50ms'],
  ]) {
    const { code, stderr } = await run(args)
    t.is(code, 3, args.join(' '))
    t.regex(stderr, /^ringbell: .+ \(ERR_RINGBELL_(NOT_FOUND|TIMEOUT)\)\n$/)
  }
})

test('a refused directory and a missing file are failures', async (t) => {
  const { run } = scene(t)
  for (const args of [
    ['pub', 'x', '--bus', '/proc/nothing/here'],
    ['ls', '--bus', '/proc/self/status'],
    ['pub', 'x', '--file', '/no/such/file'],
  ]) {
    const { code, stderr } = await run(args)
    t.is(code, 1, stderr)
    t.regex(stderr, /^ringbell: .+ \((ERR_RINGBELL_\w+|ENOENT)\)\n$/)
  }
})

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test(`${signal} closes cleanly and is exit code ${code}`, async (t) => {
    const stage = scene(t)
    const pub = stage.start(['pub', 'interrupted'])
    const sub = stage.start(['sub', 'interrupted'])
    const watch = stage.start(['watch'])
    const hz = stage.start(['hz', 'interrupted', '-i', '100ms'])
    pub.process.stdin.write('a line\n')
    await attached(stage, 'interrupted', 2)
    await watch.shows('added')
    await hz.shows('interrupted')
    for (const cli of [sub, watch, hz, pub]) {
      cli.process.kill(signal)
      const end = await cli.end
      t.deepEqual([end.code, end.signal, end.stderr], [code, null, ''])
    }
    t.deepEqual(readdirSync(stage.bus), [])
  })
}

test('a signal ends a pub that waits for room, a subscriber or draining', async (t) => {
  const stage = scene(t)
  const stuck = stage.start(['sub', 'full'], { paused: true })
  const waits = [
    stage.start(['pub', 'full', '--capacity', '4K']),
    stage.start(['pub', 'lonely', '--wait-subscriber']).feed('x\n'),
  ]
  await attached(stage, 'full')
  waits[0]!.feed('x\n'.repeat(500_000))
  await stage.until<Inspected[]>(['inspect', 'full'], ([topic]) => (topic?.source?.publisher.full ?? 0) > 0)
  await stage.until<unknown[]>(['ls', 'lonely'], (found) => found.length === 1)
  for (const cli of waits) {
    cli.process.kill('SIGINT')
    t.is((await cli.end).code, 130)
  }
  stuck.process.kill('SIGINT')
  t.is((await stuck.end).code, 130)
})

test('sub ends silently when its reader closes the pipe', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'enough'])
  const pub = stage.start(['pub', 'enough', '--rate', '500'])
  pub.process.stdin.write('a line\n'.repeat(100_000))
  await sub.shows('a line\n')
  sub.process.stdout.destroy()
  const { code, stderr } = await sub.end
  t.deepEqual([code, stderr], [0, ''])
})

test('--count gives exactly that many', async (t) => {
  const stage = scene(t)
  const sub = stage.start(['sub', 'counted', '-n', '7'])
  t.is((await stage.run(['pub', 'counted', '-w'], 'x\n'.repeat(1000))).code, 0)
  const { code, stdout } = await sub.end
  t.deepEqual([code, stdout.toString()], [0, 'x\n'.repeat(7)])
})

test('without a terminal there is neither colour nor chatter', async (t) => {
  const stage = scene(t)
  const pub = stage.start(['pub', 'plain'], { env: { FORCE_COLOR: '1' } })
  await stage.until<unknown[]>(['ls', 'plain'], (found) => found.length === 1)
  for (const args of [
    ['ls'],
    ['inspect', 'plain'],
    ['doctor'],
    ['watch', '-n', '1'],
    ['hz', 'plain', '-n', '1', '-i', '50ms'],
  ]) {
    const { stdout, stderr } = await stage.run(args)
    t.false(stdout.includes(ESCAPE), args.join(' '))
    t.is(stderr, '')
  }
  pub.feed('')
  t.is((await pub.end).stderr, '')
})
