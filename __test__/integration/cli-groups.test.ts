/** `run`, `ps`, `logs`, `restart` and `stop`: a service that is kept up, and other terminals that look at it. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Child } from '../helpers/child.js'
import { values, type Cli, type Scene, scene } from '../helpers/cli-process.js'
import { WORKER } from '../helpers/groups.js'
import { until } from '../helpers/place.js'
import { folder, runs } from '../helpers/scratch.js'

interface Row {
  service: string
  instance: string
  role: string | null
  epoch: number | null
  pid: number
  state: string
  restarts: number
}

const env = { RINGBELL_TEST_PARENT: String(process.pid) }

function keep(stage: Scene, mode: string, flags: string[] = []): Cli {
  const words = ['run', '--name', 'price', ...flags, '--', process.execPath, WORKER, 'price', mode]
  return stage.start(['--json', ...words], { env })
}

async function rows(stage: Scene, condition: (rows: Row[]) => boolean): Promise<Row[]> {
  return until(async () => {
    const { code, stdout } = await stage.run(['ps', '--json'])
    const found = code === 0 ? values<Row>(stdout) : []
    return condition(found) ? found : undefined
  })
}

const settled = (count: number) => (found: Row[]) =>
  found.length === count &&
  found.filter(({ role }) => role === 'primary').length === 1 &&
  found.every(({ state }) => state === 'primary' || state === 'standby')

test('run keeps a service up through the death of its primary, and ends its instances', async (t) => {
  const stage = scene(t)
  const run = keep(stage, 'member', ['--replicas', '3', '--min-uptime', '0s'])
  const before = await rows(stage, settled(3))
  t.deepEqual(
    before.map(({ service, instance, restarts }) => `${service} ${instance} ${restarts}`),
    ['price 0 0', 'price 1 0', 'price 2 0'],
  )
  const primary = before.find(({ role }) => role === 'primary')
  process.kill(primary?.pid as number, 'SIGKILL')
  const after = await rows(stage, (found) => settled(3)(found) && found.every(({ pid }) => pid !== primary?.pid))
  t.is(after.find(({ instance }) => instance === primary?.instance)?.restarts, 1)
  const shown = await stage.run(['ps'])
  t.regex(shown.stdout.toString(), /^SERVICE +INSTANCE +STATE/)
  t.is(shown.stdout.toString().match(/\bprimary\b/g)?.length, 1)
  run.kill('SIGTERM')
  const { code, stdout, stderr } = await run.end
  t.is(code, 143)
  for (const { pid } of after) t.false(runs(pid))
  const output = values<{ event: string; line: string }>(stdout)
  t.is(output.filter(({ event }) => event === 'output').length, 4)
  const events = values<{ event: string; signal?: string }>(Buffer.from(stderr))
  t.deepEqual(
    events.filter(({ event }) => event === 'exit').map(({ signal }) => signal),
    ['SIGKILL', 'SIGTERM', 'SIGTERM', 'SIGTERM'],
  )
  t.is(events.filter(({ event }) => event === 'primary').length >= 2, true)
})

test('other terminals read the output, replace the instances, and stop them', async (t) => {
  const stage = scene(t)
  const run = keep(stage, 'member')
  const before = await rows(stage, settled(2))
  const logs = await stage.run(['logs', 'price', '--json'])
  t.deepEqual(
    values<{ line: string; instance: string }>(logs.stdout)
      .map(({ line, instance }) => `${instance} ${line}`)
      .sort(),
    before.map(({ instance, pid }) => `${instance} member ${pid}`),
  )
  const following = stage.start(['logs', '-f', '-n', '1', 'price'])
  await following.shows('member')
  const restarted = values<Row>((await stage.run(['restart', 'price', '--json'])).stdout)
  t.true(restarted.every(({ pid, restarts }) => restarts === 1 && !before.some((old) => old.pid === pid)))
  for (const { pid } of restarted) await following.shows(`member ${pid}`)
  const top = await stage.run(['top', 'price', '-n', '2', '-i', '10ms', '--json'])
  const used = values<Row & { cpu: number | null; memory: number; rate: number | null }>(top.stdout)
  t.is(used.length, 4)
  t.true(used.every(({ memory }) => memory > 2 ** 20))
  t.deepEqual(
    used.map(({ cpu }) => cpu !== null),
    [false, false, true, true],
  )
  t.deepEqual(
    used.map(({ rate }) => rate),
    [null, null, 0, 0],
  )
  t.regex((await stage.run(['top', '-n', '1'])).stdout.toString(), /^SERVICE .* MEMORY .* BACKLOG\nprice /)
  const [first] = await rows(stage, (found) => found[0]?.role !== null && settled(2)(found))
  const failover = values<Row>((await stage.run(['restart', '--failover', 'price', '--json'])).stdout)
  t.is(failover.length, 2)
  await rows(stage, (found) => settled(2)(found) && found[0]?.role !== first?.role)
  const stopped = values<Row>((await stage.run(['stop', 'price', '--json'])).stdout)
  t.deepEqual(
    stopped.map(({ state, pid }) => `${state} ${pid}`),
    ['stopped null', 'stopped null'],
  )
  t.is((await run.end).code, 0)
  t.is((await following.end).code, 0)
  t.is((await stage.run(['stop', 'price'])).code, 3)
  t.is((await stage.run(['logs', 'price'])).code, 3)
})

test('a service that fails ends the run with 1', async (t) => {
  const stage = scene(t)
  const run = keep(stage, 'crash', ['--replicas', '1', '--max-restarts', '0'])
  const { code, stderr } = await run.end
  t.is(code, 1)
  const failed = values<{ event: string; code: string; message: string }>(Buffer.from(stderr)).find(
    ({ event }) => event === 'failed',
  )
  t.is(failed?.code, 'ERR_RINGBELL_EXITED')
  t.regex(failed?.message ?? '', /exit code 3\n {2}it is broken/)
})

test('a file of services starts them in the order of what they need', async (t) => {
  const stage = scene(t)
  const file = join(folder(t), 'services.yaml')
  writeFileSync(
    file,
    `# two services
services:
  price:
    command: [${process.execPath}, ${WORKER}, price, member]
    replicas: 2
    dependsOn: [base]
    heartbeat: { interval: 1s, timeout: 30s }
  base:
    command: ${process.execPath} ${WORKER} base serve
    replicas: 1
`,
  )
  const run = stage.start(['--json', 'run', file], { env })
  await rows(stage, (found) => found.length === 3 && found.every(({ state }) => state !== 'starting'))
  run.kill('SIGINT')
  const { code, stderr } = await run.end
  t.is(code, 130)
  const ready = values<{ event: string; service: string }>(Buffer.from(stderr)).filter(({ event }) => event === 'ready')
  t.deepEqual(
    ready.map(({ service }) => service),
    ['base', 'price', 'price'],
  )
})

const READER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    print(s.recv(1000).decode().splitlines()[0], flush=True)
`

const python = spawnSync('python3', ['--version']).status === 0 ? test : test.skip

python('systemd is told when all are ready, that it works, and that it stops', async (t) => {
  const stage = scene(t)
  const socket = join(folder(t), 'notify')
  const reader = new Child('python3', ['-c', READER, socket])
  t.teardown(() => reader.ended())
  await reader.shows('bound')
  const words = ['run', '--name', 'price', '--ready', 'started', '--', 'sleep', '1000']
  const run = stage.start(words, { env: { ...env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '20000' } })
  await reader.shows(/READY=1\n(.*\n)*WATCHDOG=1\n/)
  run.kill('SIGTERM')
  t.is((await run.end).code, 143)
  await reader.shows('STOPPING=1')
  t.is(reader.stdout.toString().match(/READY/g)?.length, 1)
})

test('what is wrong with a file is told with line and column', async (t) => {
  const stage = scene(t)
  const file = join(folder(t), 'services.yaml')
  for (const [text, place, words] of [
    ['services:\n  a: [\n', '3:1', 'Flow sequence'],
    ['service: {}', '1:1', 'service is not known'],
    ['services:\n  price:\n    command: node x\n    replicas: many\n', '4:15', 'replicas'],
    ['services:\n  price:\n    command: node x\n    grace: soon\n', '4:12', 'duration'],
    ['services:\n  price:\n    command: node x\n    replica: 3\n', '4:5', 'replica is not known'],
    ['services:\n  price:\n    replicas: 3\n', '2:3', 'command'],
    ['services:\n  price:\n    command: sh -c "x y"\n', '3:14', 'list of words'],
    ['services:\n  a: { command: x, dependsOn: [b] }\n', '2:31', "'b'"],
    ['services:\n  a: { command: x, dependsOn: [b] }\n  b: { command: x, dependsOn: [a] }\n', '2:31', 'circle'],
    ['services:\n  no name: { command: x }\n', '2:3', 'name'],
  ] as const) {
    writeFileSync(file, text)
    const { code, stderr } = await stage.run(['run', file])
    t.is(code, 2, text)
    t.true(stderr.includes(`${file}:${place}: `), stderr)
    t.true(stderr.includes(words), stderr)
  }
  t.is((await stage.run(['run'])).code, 2)
  t.is((await stage.run(['run', '--name', 'price'])).code, 2)
  t.is((await stage.run(['run', '/no/such/file'])).code, 1)
})
