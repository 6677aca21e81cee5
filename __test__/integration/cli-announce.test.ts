/** `ringbell announce` and `ringbell resolve`: any program on the bus, for as long as it runs. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { scene, values } from '../helpers/cli-process.js'
import { folder } from '../helpers/scratch.js'

/** Listens on a path, says so, and ends with 7 at SIGTERM. */
const LISTENS = `
  const server = require('node:net').createServer().listen(process.argv[1], () => console.log('listens as', process.env.RINGBELL_SERVICE))
  process.on('SIGTERM', () => process.exit(7))`
const program = (path: string): string[] => ['--', process.execPath, '-e', LISTENS, path]

interface Resolved {
  address: string
  endpoint: string
  socketPath?: string
  pid: number
  healthy: boolean
}

test('a program is announced once it accepts connections, until it ends', async (t) => {
  const stage = scene(t)
  const path = join(folder(t), 'api.sock')
  const early = await stage.run(['resolve', 'api'])
  t.is(early.code, 3)
  t.regex(early.stderr, /No process announces 'api'/)
  const running = stage.start(['announce', 'api', '--unix', path, '--tags', 'v2,blue', ...program(path)])
  const shown = await stage.run(['resolve', 'api', '--timeout', '1m'])
  t.deepEqual([shown.code, shown.stdout.toString(), shown.stderr], [0, `${path}\n`, ''])
  t.is(running.stdout.toString(), 'listens as api\n')
  const [one] = values<Resolved>((await stage.run(['resolve', 'api', 'http', '--json'])).stdout)
  t.like(one, { address: `unix:${path}`, endpoint: 'http', socketPath: path, pid: running.pid, healthy: true })
  const [listed] = JSON.parse((await stage.run(['ls', 'api', '--json'])).stdout.toString()) as { metadata: object }[]
  t.deepEqual(listed?.metadata, { tags: ['v2', 'blue'] })
  const other = await stage.run(['resolve', 'api', 'admin'])
  t.is(other.code, 3)
  t.regex(other.stderr, /has no endpoint 'admin'; it has 'http'/)
  running.kill('SIGTERM')
  t.is((await running.end).code, 7)
  t.is((await stage.run(['resolve', 'api', '--all'])).code, 3)
})

test('the exit code of the program is passed on, whether it was announced or not', async (t) => {
  const stage = scene(t)
  const path = join(folder(t), 'api.sock')
  const short = await stage.run(['announce', 'api', '--unix', path, '--', 'sh', '-c', 'exit 5'])
  t.deepEqual([short.code, short.stderr], [5, ''])
  t.is((await stage.run(['announce', 'api', '--unix', path, '--', 'sh', '-c', 'kill -9 $$'])).code, 137)
  const deaf = await stage.run(['announce', 'api', '--unix', path, '--timeout', '50ms', '--', 'sleep', '1000'])
  t.is(deaf.code, 3)
  t.regex(deaf.stderr, /Nothing accepts connections on unix:.*after 50 ms \(ERR_RINGBELL_TIMEOUT\)/)
})

test('without a command it announces what runs already, and follows its health', async (t) => {
  const stage = scene(t)
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const taken = await stage.run(['announce', 'api', '--port', String(port), '--', 'true'])
  t.is(taken.code, 1)
  t.regex(taken.stderr, /Another program listens on http:\/\/127\.0\.0\.1:\d+ already/)
  const announcing = stage.start(['announce', 'api', '--port', String(port), '--health', '10ms', '--endpoint', 'rpc'])
  const shown = await stage.run(['resolve', 'api', 'rpc', '--timeout', '1m'])
  t.deepEqual([shown.stdout.toString(), shown.stderr], [`127.0.0.1:${port}\n`, ''])
  server.close()
  await once(server, 'close')
  let resolved
  do resolved = await stage.run(['resolve', 'api', 'rpc'])
  while (resolved.code === 0)
  t.regex(resolved.stderr, /health check of every instance/)
  t.false(values<Resolved>((await stage.run(['resolve', 'api', 'rpc', '--all', '--json'])).stdout)[0]?.healthy)
  announcing.kill('SIGINT')
  t.is((await announcing.end).code, 130)
})

test('it must be said where a program can be reached, and once', async (t) => {
  const stage = scene(t)
  const wrong: [string[], RegExp][] = [
    [[], /--unix PATH, --port N or --url URL/],
    [['--port', '0'], /from 1 to 65535/],
    [['--port', '80', '--unix', 'x'], /cannot be used with/],
    [['--url', 'words'], /must be a path, or a URL with a host and a port/],
    // The program does not run before these are told.
    [['--port', '1', '--tags', 'two words'], /tags/],
    [['--port', '1', '--health', '0s'], /health/],
    [['--port', '1', '--endpoint', 'e'.repeat(257)], /endpoint/],
  ]
  for (const [options, message] of wrong) {
    const { code, stdout, stderr } = await stage.run(['announce', 'api', ...options, '--', 'echo', 'it runs'])
    t.is(code, 2)
    t.regex(stderr, message)
    t.is(stdout.toString(), '')
  }
})
