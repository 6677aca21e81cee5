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
  // A busy machine takes longer than the default to start Node.
  const words = [
    'run',
    '--name',
    'price',
    '--ready-timeout',
    '2m',
    ...flags,
    '--',
    process.execPath,
    WORKER,
    'price',
    mode,
  ]
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

const unshare = spawnSync('unshare', ['--pid', '--fork', 'true']).status === 0 ? test : test.skip

unshare(
  'ps and top say when there is nothing, and nothing of a process that has the same number elsewhere',
  async (t) => {
    const stage = scene(t)
    const none = await stage.run(['ps', 'price'])
    t.is(none.code, 3)
    t.regex(none.stderr, /No instance of 'price' is on /)
    const empty = await stage.run(['ps'])
    t.is(empty.code, 0)
    t.regex(empty.stderr, /No instance of a service group is on /)
    const words = ['--pid', '--fork', '--kill-child', process.execPath, WORKER, 'price', 'member']
    const child = new Child('unshare', words, { env: { IPC_BUS_DIR: stage.bus } })
    t.teardown(() => child.ended())
    await rows(stage, settled(1))
    const top = values<{ pid: number; memory: unknown; cpu: unknown }>(
      (await stage.run(['top', '--json', '-n', '2', '-i', '10ms'])).stdout,
    )
    t.deepEqual(
      top.map(({ pid, memory, cpu }) => [pid, memory, cpu]),
      [
        [1, null, null],
        [1, null, null],
      ],
    )
  },
)

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
    readyTimeout: 2m
    dependsOn: [base]
    heartbeat: { interval: 1s, timeout: 30s }
  base:
    command: ${process.execPath} ${WORKER} base serve
    readyTimeout: 2m
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

test('a file may share blocks, and words and variables are what was written', async (t) => {
  const stage = scene(t)
  const file = join(folder(t), 'services.yaml')
  writeFileSync(
    file,
    `x-shared: &shared
  command: [sh, -c, 'echo "$VERSION|$EMPTY|$MODE|$1|$2"', x, 1.10, ~]
  replicas: 1
  readiness: started
  autoRespawn: false
services:
  a:
    <<: *shared
    env: &env { VERSION: 1.10, EMPTY: , MODE: fast }
  b:
    <<: [*shared]
    env: { MODE: slow, <<: *env }
  c: &c { <<: *shared, env: *env }
  d: *c
`,
  )
  const { stdout } = await stage.run(['--json', 'run', file])
  t.deepEqual(
    values<{ service: string; line: string }>(stdout)
      .map(({ service, line }) => `${service} ${line}`)
      .sort(),
    ['a 1.10||fast|1.10|~', 'b 1.10||slow|1.10|~', 'c 1.10||fast|1.10|~', 'd 1.10||fast|1.10|~'],
  )
})

test('what is wrong with a file, or with the words before it, is told', async (t) => {
  const stage = scene(t)
  const file = join(folder(t), 'services.yaml')
  writeFileSync(file, 'services:\n  price:\n    command: node x\n    replicas: many\n')
  for (const [words, text] of [
    [[file], `${file}:4:15: services.price: Option replicas has the wrong value "many"`],
    [[], 'Give one file'],
    [['--name', 'price', file], 'without --name'],
    [['--replicas', '2', '--no-respawn', file], '--replicas and --no-respawn cannot be given with a file'],
  ] as const) {
    const { code, stderr } = await stage.run(['run', ...words])
    t.is(code, 2, stderr)
    t.true(stderr.includes(text), stderr)
  }
})
