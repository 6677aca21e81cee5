/** `run` and what asks it, in bad luck: output that nobody reads, a service manager that is gone, a manager that does not answer. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Cli, type Scene, scene, values } from '../helpers/cli-process.js'
import { WORKER } from '../helpers/groups.js'
import { until } from '../helpers/place.js'
import { folder, runs } from '../helpers/scratch.js'

const env = { RINGBELL_TEST_PARENT: String(process.pid) }

interface Event {
  event: string
  service: string
  pid: number
  state: string
  message: string
}

/** A run of one instance of what a shell does. */
function shell(stage: Scene, script: string, more: { flags?: string[]; env?: object; paused?: boolean } = {}): Cli {
  const words = ['run', '--name', 'price', '-r', '1', '--ready', 'started', ...(more.flags ?? [])]
  return stage.start(['--json', ...words, '--', 'sh', '-c', script], {
    env: { ...env, ...more.env },
    ...(more.paused === true ? { paused: true } : {}),
  })
}

const events = ({ stderr }: { stderr: string }): Event[] =>
  values<Event>(Buffer.from(stderr.slice(0, stderr.lastIndexOf('\n') + 1)))

/** Its instance, which is killed at the end whatever happens. */
async function instanceOf(t: ExecutionContext, run: Cli): Promise<number> {
  const { pid } = await until(() => events(run).find(({ event }) => event === 'ready'))
  t.teardown(() => {
    if (runs(pid)) process.kill(pid, 'SIGKILL')
  })
  return pid
}

test('a service manager that cannot be told is said once, and keeps nothing from its end', async (t) => {
  const stage = scene(t)
  const run = shell(stage, 'exec sleep 1000', { env: { NOTIFY_SOCKET: '/no/such/socket', WATCHDOG_USEC: '20000' } })
  const pid = await instanceOf(t, run)
  await until(() => run.stderr.includes('cannot tell') || run.stderr.includes('"notify"'))
  run.kill('SIGTERM')
  const { code, stderr } = await run.end
  t.is(code, 143)
  t.false(runs(pid))
  t.is(events({ stderr }).filter(({ event }) => event === 'notify').length, 1)
})

test('output that nobody reads stops who writes it, and keeps nothing from its end', async (t) => {
  const stage = scene(t)
  const run = shell(stage, 'exec yes', { paused: true })
  const pid = await instanceOf(t, run)
  const written = (): string => readFileSync(`/proc/${pid}/io`, 'utf8').split('\n')[1] ?? ''
  await until(async () => {
    const before = written()
    await new Promise((done) => setTimeout(done, 100))
    return before === written()
  })
  run.kill('SIGTERM')
  await until(() => !run.running)
  t.false(runs(pid))
  run.read()
  const { code, stderr } = await run.end
  t.is(code, 143)
  t.false(/Warning|AbortError/.test(stderr), stderr)
})

test('a reader of the output that goes ends the run in order', async (t) => {
  const stage = scene(t)
  const run = shell(stage, 'while echo line; do sleep 0.02; done')
  const pid = await instanceOf(t, run)
  await run.shows('line')
  run.process.stdout.destroy()
  const { code, stderr } = await run.end
  t.is(code, 0)
  t.false(runs(pid))
  t.false(stderr.includes('AbortError'), stderr)
})

test('what an instance leaves behind with its output does not keep the run', async (t) => {
  const stage = scene(t)
  const run = shell(stage, 'sleep 1000 & echo left $!; exec sleep 1000')
  await instanceOf(t, run)
  await run.shows('left')
  const left = Number(/left (\d+)/.exec(run.stdout.toString())?.[1])
  t.teardown(() => process.kill(left, 'SIGKILL'))
  t.is((await stage.run(['stop', 'price'])).code, 0)
  t.is((await run.end).code, 0)
})

test('one that never got ready is a failure, also without respawn', async (t) => {
  const stage = scene(t)
  const { code, stderr } = await stage.run(['run', '--name', 'price', '--no-respawn', '--', 'sh', '-c', 'exit 3'])
  t.is(code, 1)
  t.regex(stderr, /exit code 3/)
})

test('each end of one that was not ready in time says so', async (t) => {
  const stage = scene(t)
  const words = ['run', '--name', 'price', '-r', '1', '--ready-timeout', '1ms', '--max-restarts', '0']
  const { code, stderr } = await stage.run([...words, '--', 'sleep', '1000'])
  t.is(code, 1)
  t.regex(stderr, /was ended by SIGKILL: .*'price' within 1 ms/)
})

test('instances have a process group of their own, and a further signal kills them', async (t) => {
  const stage = scene(t)
  const run = shell(stage, `trap '' TERM; echo deaf; while :; do sleep 0.1; done`, { flags: ['--grace', '1h'] })
  const pid = await instanceOf(t, run)
  await run.shows('deaf')
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  t.is(Number(fields.split(' ')[2]), pid)
  run.kill('SIGINT')
  await until(async () => {
    await new Promise((done) => setTimeout(done, 50))
    if (run.running) run.kill('SIGINT')
    return !run.running
  })
  t.false(runs(pid))
})

test('the logs of a quiet group end with Ctrl-C', async (t) => {
  const stage = scene(t)
  await instanceOf(t, shell(stage, 'echo hello; exec sleep 1000'))
  const logs = stage.start(['logs', '-f', 'price'])
  await logs.shows('hello')
  logs.kill('SIGINT')
  t.is((await logs.end).code, 130)
})

test('a manager that does not answer is said after a limit, and Ctrl-C does not wait for that', async (t) => {
  const stage = scene(t)
  const run = shell(stage, 'exec sleep 1000')
  await instanceOf(t, run)
  await run.stop()
  for (const words of [['stop'], ['restart'], ['restart', '--failover'], ['logs', '-f']]) {
    const { code, stderr } = await stage.run([...words, 'price', '--timeout', '50ms'])
    t.is(code, 3, words.join(' '))
    t.regex(stderr, new RegExp(`process ${run.pid}, has not answered for 50 ms`))
  }
  const patient = stage.start(['stop', 'price', '--timeout', '1h'])
  // It listens to signals. SIGHUP is the last one, and one that Node itself does not listen to.
  await until(
    () => (BigInt(`0x${/SigCgt:\s*(\w+)/.exec(readFileSync(`/proc/${patient.pid}/status`, 'utf8'))?.[1]}`) & 1n) > 0n,
  )
  patient.kill('SIGINT')
  t.is((await patient.end).code, 130)
  run.kill('SIGCONT')
  t.is((await stage.run(['stop', 'price'])).code, 0)
})

test('a service whose dependency fails is said not to be started', async (t) => {
  const stage = scene(t)
  const file = join(folder(t), 'services.json')
  const base = { command: 'false', replicas: 1, maxRestarts: 0 }
  writeFileSync(file, JSON.stringify({ services: { web: { command: 'true', dependsOn: ['base'] }, base } }))
  const { code, stderr } = await stage.run(['run', file])
  t.is(code, 1)
  t.regex(stderr, /web is not started: it needs base/)
})

test('members whose manager was killed are counted by those that ask for a manager', async (t) => {
  const stage = scene(t)
  const words = ['run', '--name', 'price', '-r', '1', '--', process.execPath, WORKER, 'price', 'member']
  const run = stage.start(['--json', ...words], { env })
  const pid = await instanceOf(t, run)
  await run.ended()
  const { code, stderr } = await stage.run(['stop', 'price'])
  t.is(code, 3)
  t.true(stderr.includes(`1 member (pid ${pid}) lives without one`), stderr)
  t.is((await stage.run(['restart', '--failover', 'price'])).code, 3)
})
