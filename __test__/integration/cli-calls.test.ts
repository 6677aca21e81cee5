/** `ringbell call`, `serve` and `stats`: a command a call, its exit code as an error, and who gives up. */
import test from 'ava'
import { Bus } from 'ringbell'
import { type Cli, scene, type Scene, values } from '../helpers/cli-process.js'
import { until } from '../helpers/place.js'

async function serving(at: Scene, args: readonly string[]): Promise<Cli> {
  const cli = at.start(['serve', ...args])
  await at.until<{ name: string }[]>(['ls'], (services) => services.some(({ name }) => name === args[0]))
  return cli
}

test('serve runs a command with stdin and stdout; Ctrl-C ends it', async (t) => {
  const at = scene(t)
  const server = await serving(at, ['upper', '--', 'tr', 'a-z', 'A-Z'])
  t.is((await at.run(['call', 'upper', 'hello'])).stdout.toString(), 'HELLO')
  t.is((await at.run(['call', 'upper'], 'from stdin\n')).stdout.toString(), 'FROM STDIN\n')
  t.deepEqual(values((await at.run(['call', 'upper', 'x', '--json'])).stdout), [{ text: 'X' }])
  const large = await at.run(['call', 'upper'], 'a'.repeat(20_000))
  t.is(large.stdout.toString(), 'A'.repeat(20_000))
  const [stats] = JSON.parse((await at.run(['stats', 'upper', '--json'])).stdout.toString()) as [
    { kind: string; server: { requests: number; replies: number } },
  ]
  t.like(stats, { kind: 'server', server: { requests: 4, replies: 4 } })
  t.regex((await at.run(['stats', 'upper'])).stdout.toString(), /4 requests, 0 in hand\n.*4 replies, 0 errors/)
  server.process.kill('SIGINT')
  t.is((await server.end).code, 130)
})

test('--header sends headers, and --json shows those of the reply', async (t) => {
  const at = scene(t)
  const bus = await Bus.open({ path: at.bus })
  t.teardown(() => bus.close())
  await bus.serve('told', {}, async (_request, context) => {
    context.replyHeaders = { seen: Object.keys(context.headers).join() }
    return Buffer.from(`${context.headers['tenant']} ${context.headers['text']}`)
  })
  const args = ['call', 'told', 'x', '-H', 'tenant=acme', '--header', 'text=a=b c']
  t.is((await at.run(args)).stdout.toString(), 'acme a=b c')
  t.deepEqual(values((await at.run([...args, '--json'])).stdout), [
    { text: 'acme a=b c', headers: { seen: 'tenant,text' } },
  ])
  const wrong = await at.run(['call', 'told', 'x', '--header', 'tenant'])
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /such as tenant=acme/)
  const upper = await at.run(['call', 'told', 'x', '--header', 'Tenant=acme'])
  t.is(upper.code, 2)
  t.regex(upper.stderr, /Tenant/)
})

test('a failed or missing command is an error, and the server goes on', async (t) => {
  const at = scene(t)
  await serving(at, ['picky', '--codec', 'json', '--', 'sh', '-c', 'grep -q good && echo \'{"ok":true}\''])
  await serving(at, ['missing', '--', '/no/such/command'])
  const bad = await at.run(['call', 'picky', '"bad"'])
  t.is(bad.code, 1)
  t.regex(bad.stderr, /sh ended with exit code 1 \(ERR_COMMAND_FAILED\)/)
  t.deepEqual(values((await at.run(['call', 'picky', '"good"', '--json'])).stdout), [{ value: { ok: true } }])
  const missing = await at.run(['call', 'missing', 'x'])
  t.is(missing.code, 1)
  t.regex(missing.stderr, /ENOENT/)
})

test('a call that times out kills the command; no server is exit code 3', async (t) => {
  const at = scene(t)
  const script = `trap 'echo killed >&2; kill $!; exit 0' TERM; sleep 60 & echo started >&2; wait`
  const server = await serving(at, ['slow', '--', 'sh', '-c', script])
  const caller = at.start(['call', 'slow', 'x', '-t', '60s']).feed('')
  await until(() => server.stderr.includes('started'))
  caller.process.kill('SIGINT')
  t.is((await caller.end).code, 130)
  await until(() => server.stderr.includes('killed'))
  const late = await at.run(['call', 'slow', 'x', '-t', '300ms'])
  t.is(late.code, 3)
  const nobody = await at.run(['call', 'nobody', 'x', '-t', '50ms'])
  t.is(nobody.code, 3)
  t.regex(nobody.stderr, /No process serves 'nobody'.*ERR_RINGBELL_NOT_FOUND/)
  t.is((await at.run(['stats', 'nobody'])).code, 3)
  const deaf = await at.run(['sub', 'slow', '-t', '50ms'])
  t.is(deaf.code, 3)
  t.regex(
    deaf.stderr,
    new RegExp(`Nothing came from 'slow' .*; process ${server.process.pid} announces 'slow' as a server, and`),
  )
  const bus = await Bus.open({ path: at.bus })
  await bus.publisher('ticks')
  const dumb = await at.run(['call', 'ticks', 'x', '-t', '50ms'])
  await bus.close()
  t.is(dumb.code, 3)
  t.regex(
    dumb.stderr,
    new RegExp(`No process serves 'ticks' .*; process ${process.pid} announces 'ticks' as a topic, and`),
  )
})

test('streams, environment of the command, and concurrent commands', async (t) => {
  const at = scene(t)
  await serving(at, ['count', '--stream', '--', 'sh', '-c', 'for n in 1 2 3; do echo $n; sleep 0.05; done'])
  const { stdout } = await at.run(['call', 'count', '--stream', ''])
  t.is(stdout.toString(), '1\n2\n3\n')
  const whole = await at.run(['call', 'count', ''])
  t.is(whole.code, 1)
  t.is(whole.stderr, "ringbell: 'count' answers with a stream; call it with --stream. (ERR_RINGBELL_STREAM)\n")
  await serving(at, [
    'who',
    '-j',
    '1',
    '--',
    'sh',
    '-c',
    'echo $RINGBELL_SERVICE $RINGBELL_PEER_UID $RINGBELL_REDELIVERED',
  ])
  const bus = await Bus.open({ path: at.bus })
  const client = await bus.connect('who')
  const replies = await Promise.all(Array.from({ length: 5 }, () => client.call(new Uint8Array(0))))
  for (const reply of replies) t.is(Buffer.from(reply).toString(), `who ${process.getuid?.()} 0\n`)
  await bus.close()
})

test('stats of a topic', async (t) => {
  const at = scene(t)
  const pub = at.start(['pub', 'lines'])
  pub.process.stdin.write('a\nb\n')
  const counted = await at.until<{ topic?: { publisher: { messages: number } } }[]>(
    ['stats', 'lines'],
    ([one]) => one?.topic?.publisher.messages === 2,
  )
  t.is(counted.length, 1)
  pub.process.stdin.end()
  await pub.end
})
