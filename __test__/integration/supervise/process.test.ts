/** Process handles: they are about that very process alone, whatever happens to its number. */
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { RingbellError, type Service } from 'ringbell'
import { openProcess, type ProcessHandle, spawn, spawnAndWait, type SpawnOptions } from 'ringbell/supervise'
import { announcing as untilAnnounced } from '../../../src/supervise/announcing.js'
import { asRoot, GUEST } from '../../helpers/as-root.js'
import { Child } from '../../helpers/child.js'
import { PATIENCE_MS } from '../../helpers/patience.js'
import { codeOf, place, until } from '../../helpers/place.js'
import { folder, runs } from '../../helpers/scratch.js'

/** Under `oldsys pidfd_open=…`: Node signals its own children, and others cannot be held. */
const withoutPidfd = (process.env['RINGBELL_TEST_SYSCALLS'] ?? '').startsWith('pidfd_open=')

/** A process that does not outlive its test. */
async function started(
  t: ExecutionContext,
  command: string,
  args: string[] = [],
  options: SpawnOptions = {},
): Promise<ProcessHandle> {
  t.timeout(PATIENCE_MS)
  const handle = await spawn(command, args, options)
  t.teardown(async () => {
    handle.forceKill()
    await handle.exited
  })
  return handle
}

test('a process lives until it is a zombie, and its handle then reaches nobody', async (t) => {
  const handle = await started(t, 'sleep', ['1000'])
  t.true(handle.isAlive())
  t.is(handle.signals, withoutPidfd ? 'child' : 'pidfd')
  t.deepEqual(handle.status, { exited: false, exitCode: null, signal: null })
  t.deepEqual(await handle.waitForExit(1), { exited: false, exitCode: null, signal: null })
  process.kill(handle.pid, 'SIGKILL')
  // Node reaps it in a later turn of the loop. Until then it is a zombie.
  while (runs(handle.pid));
  t.false(handle.isAlive())
  t.false(handle.requestShutdown(), 'a zombie takes no signal')
  t.deepEqual(await handle.exited, { exited: true, exitCode: null, signal: 'SIGKILL' })
  t.false(handle.isAlive())
  t.false(handle.signal('SIGKILL'))
  t.deepEqual(await handle.waitForExit(), { exited: true, exitCode: null, signal: 'SIGKILL' })
})

test('a stopped process is alive, and a shutdown kills what ignores SIGTERM', async (t) => {
  const handle = await started(t, 'sh', ['-c', 'trap "" TERM; echo ready; while :; do read x; done'], {
    stdio: 'pipe',
  })
  await new Promise((resolve) => handle.stdout?.once('data', resolve))
  t.true(handle.signal('SIGSTOP'))
  t.true(handle.isAlive())
  t.deepEqual(await handle.shutdown(50), { exited: true, exitCode: null, signal: 'SIGKILL' })
})

test('a shutdown waits for what a process does at its end', async (t) => {
  const handle = await started(t, 'sh', ['-c', 'trap "exit 7" TERM; echo ready; while :; do read x; done'], {
    stdio: 'pipe',
  })
  await new Promise((resolve) => handle.stdout?.once('data', resolve))
  t.deepEqual(await handle.shutdown(), { exited: true, exitCode: 7, signal: null })
})

test('what cannot be started says why', async (t) => {
  const error = await t.throwsAsync(spawn('no-such-command'), { instanceOf: RingbellError })
  t.is(error?.code, 'ERR_RINGBELL_SYSTEM')
  t.is(error?.errno, -constants.errno.ENOENT)
  t.is(error?.syscall, 'spawn')
  for (const tied of ['none', 'process', 'tree'] as const) {
    t.is(await codeOf(() => spawn('no-such-command', [], { tied })), 'ERR_RINGBELL_SYSTEM', tied)
    t.is(await codeOf(() => spawn('true', [], { tied, cwd: '/no/such/folder' })), 'ERR_RINGBELL_SYSTEM', tied)
    t.is(await codeOf(() => spawn('/etc/passwd', [], { tied })), 'ERR_RINGBELL_NO_PERMISSION', tied)
    t.is(await codeOf(() => spawn('./no', [], { tied })), 'ERR_RINGBELL_SYSTEM', tied)
  }
  for (const wrong of [
    () => spawn(''),
    () => spawn('true', 'x' as never),
    () => spawn('true', [], { cwd: 3 as never }),
    () => spawn('true', [], { stdio: 'nowhere' as never }),
    () => spawn('true', [], { stdio: { stdout: {} as never } }),
    () => spawn('true', [], { tied: 'always' as never }),
    () => spawn('true', [], { misspelled: true } as never),
  ])
    t.is(await codeOf(wrong), 'ERR_RINGBELL_INVALID_OPTION')
  const handle = await started(t, 'sleep', ['1000'])
  t.throws(() => handle.signal('SIGNOTHING' as never), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  t.is(await codeOf(() => handle.shutdown(-1)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => handle.waitForExit(1, { signal: AbortSignal.abort() })), 'ABORT_ERR')
})

test('a wrong option is named by its path, and a wrong file by its name', async (t) => {
  const log = join(folder(t), 'no', 'out.log')
  for (const [wrong, text] of [
    [() => spawn('a\0b'), /^Option command .*NUL/],
    [() => spawn('true', ['x', 'a\0b']), /^Option args\[1\] .*NUL/],
    [() => spawn('true', [5 as never]), /^Option args\[0\] .*string/],
    [() => spawn('true', [], { cwd: '/\0' }), /^Option cwd .*NUL/],
    [() => spawn('true', [], { env: { A: 'a\0b' } }), /^Option env\.A .*NUL/],
    [() => spawn('true', [], { env: { A: 5 as never } }), /^Option env\.A .*string/],
    [() => spawn('true', [], { env: { 'a.b': '1' }, tied: 'process' }), /^Option env\.a\.b .*tied/],
    [() => spawn('true', [], { stdio: ['ignore'] as never }), /^Option stdio .*\{ stdin, stdout, stderr \}/],
    [() => spawn('true', [], { stdio: { file: '' } }), /^Option stdio /],
    [() => spawn('true', [], { stdio: { stdout: { file: 'a\0b' } } }), /^Option stdio\.stdout /],
    [
      () => spawn('true', [], { stdio: { file: log } }),
      /^Cannot start 'true'; its output goes to '.*out\.log' \(ENOENT\)/,
    ],
    [() => spawn('true', [], { stdio: { file: '/' } }), /^Cannot start 'true'; its output goes to '\/' \(EISDIR\)/],
    [() => spawn('true', [], { cwd: '/no' }), /^Cannot start 'true'; it cannot work in '\/no' \(ENOENT\)/],
    [() => spawn('true', [], { cwd: '/etc/passwd', tied: 'tree' }), /; it cannot work in '\/etc\/passwd' \(ENOTDIR\)/],
  ] as const)
    await t.throwsAsync<RingbellError>(wrong, { message: text })
  const bus = await place(t).bus()
  t.is(await codeOf(() => spawnAndWait(bus, { command: 'sleep' } as never)), 'ERR_RINGBELL_INVALID_NAME')
})

/** What /proc/PID/stat says: the command, and then the numbers from the parent on. */
function statOf(pid: number): { command: string; parent: number; group: number } {
  try {
    const [, command = '', parent, group] =
      /^\d+ \((.*)\) \S+ (\d+) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? []
    return { command, parent: Number(parent), group: Number(group) }
  } catch {
    return { command: '', parent: 0, group: 0 }
  }
}

test('the guard of a tied process is no child of it', async (t) => {
  const { pid } = await started(t, 'sleep', ['1000'], { tied: 'process' })
  await until(() => statOf(pid).command === 'sleep')
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [statOf(Number(name))] : []))
  t.false(all.some(({ parent }) => parent === pid))
  t.is(all.filter(({ group }) => group === pid).length, 2, 'the guard is in its group')
})

asRoot('a process of another user can be held, and gets no signal', async (t) => {
  const at = place(t)
  chmodSync(at.path, 0o755)
  await (await at.bus()).serve('price', () => {})
  const script = `
    import { Bus } from 'ringbell'
    import { openProcess } from 'ringbell/supervise'
    process.setuid(${GUEST})
    const bus = await Bus.open({ create: false })
    try {
      const handle = openProcess(bus.services.find('price'))
      console.log(handle.isAlive())
      handle.signal('SIGTERM')
    } catch ({ code }) {
      console.log(code)
    }
    process.exit()`
  const child = new Child(process.execPath, ['--input-type=module', '-e', script], { env: { IPC_BUS_DIR: at.path } })
  const { stdout, stderr } = await child.end
  const told = withoutPidfd ? 'ERR_RINGBELL_UNSUPPORTED_PLATFORM\n' : 'true\nERR_RINGBELL_NO_PERMISSION\n'
  t.is(stdout.toString(), told, stderr)
})

test('output goes where it is told to', async (t) => {
  const file = join(folder(t), 'out.log')
  writeFileSync(file, 'before\n')
  const script = ['-c', 'echo one; echo two >&2; printf three']
  const toFile = await started(t, 'sh', script, { stdio: { file } })
  t.is((await toFile.exited).exitCode, 0)
  t.is(readFileSync(file, 'utf8'), 'before\none\ntwo\nthree')
  const lines: string[] = []
  await started(t, 'sh', script, { stdio: (line, stream) => lines.push(`${stream} ${line}`) })
  await until(() => lines.length === 3)
  t.deepEqual(lines.sort(), ['stderr two', 'stdout one', 'stdout three'])
  const env = await started(t, 'sh', ['-c', 'echo "$ADDED-${HOME-none}"; pwd'], {
    cwd: '/',
    env: { ADDED: 'here', HOME: undefined },
    stdio: (line) => lines.push(line),
  })
  await env.exited
  await until(() => lines.length === 5)
  t.deepEqual(lines.slice(3), ['here-none', '/'])
})

const KEEPER = `
import { spawn } from 'ringbell/supervise'
const [tied] = process.argv.slice(1)
const script = 'sleep 1000 & echo $!; exec sleep 1000'
const handle = await spawn('sh', ['-c', script], { tied, stdio: (line) => {
  process.send({ what: 'started', pid: handle.pid, grandchild: Number(line) })
} })
process.on('message', () => handle.forceKill())
`

for (const tied of ['process', 'tree'] as const) {
  test(`a ${tied} that is tied ends with its manager, however that ends`, async (t) => {
    const manager = keeper(t, tied)
    const { pid, grandchild } = await manager.told
    t.true(runs(pid) && runs(grandchild))
    manager.child.kill('SIGKILL')
    await until(() => !runs(pid))
    if (tied === 'tree') await until(() => !runs(grandchild))
    else {
      t.true(runs(grandchild), 'only the process is tied')
      process.kill(grandchild, 'SIGKILL')
    }
  })
}

test('what a tied tree has started ends with the process itself', async (t) => {
  const manager = keeper(t, 'tree')
  const { pid, grandchild } = await manager.told
  process.kill(pid, 'SIGTERM')
  await until(() => !runs(grandchild))
  t.true(manager.child.running)
})

test('what is not tied outlives its manager', async (t) => {
  const manager = keeper(t, 'none')
  const { pid, grandchild } = await manager.told
  manager.child.kill('SIGKILL')
  await manager.child.end
  t.true(runs(pid) && runs(grandchild))
  process.kill(pid, 'SIGKILL')
  process.kill(grandchild, 'SIGKILL')
})

interface Told {
  pid: number
  grandchild: number
}

function keeper(t: ExecutionContext, tied: string): { child: Child; told: Promise<Told> } {
  t.timeout(PATIENCE_MS)
  const child = new Child(process.execPath, ['--input-type=module', '-e', KEEPER, '--', tied], { ipc: true })
  const told = new Promise<Told>((resolve, reject) => {
    child.process.once('message', (message) => resolve(message as Told))
    void child.end.then(({ stderr }) => reject(new Error(stderr)))
  })
  t.teardown(async () => {
    const { pid, grandchild } = await told
    await child.ended()
    for (const one of [pid, grandchild]) if (runs(one)) process.kill(one, 'SIGKILL')
  })
  return { child, told }
}

const announcing = (name: string, after = ''): string[] => [
  '--input-type=module',
  '-e',
  `import { Bus } from 'ringbell'
   const bus = await Bus.open()
   await bus.serve('${name}', () => {})
   ${after}`,
]

test('spawnAndWait waits for that very process', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const env = { IPC_BUS_DIR: at.path }
  await bus.serve('price', () => {})
  const how = { service: 'price', command: process.execPath, args: announcing('price'), env, timeout: PATIENCE_MS }
  const { process: handle, service } = await spawnAndWait(bus, how)
  at.onEnd(async () => {
    await handle.shutdown()
    await bus.gc()
  })
  t.is(service.pid, handle.pid)
  t.true(handle.isAlive())
  if (withoutPidfd) {
    t.throws(() => openProcess(service), { code: 'ERR_RINGBELL_UNSUPPORTED_PLATFORM' })
    return
  }
  const other = openProcess(service)
  t.true(other.isAlive())
  t.true(other.requestShutdown())
  t.deepEqual(await other.exited, { exited: true, exitCode: null, signal: null })
  t.true((await handle.exited).exited)
  t.throws(() => openProcess(service), { code: 'ERR_RINGBELL_PEER_GONE' })
  await until(() => bus.services.list().length === 1)
})

test('spawnAndWait fails at once when the process ends, and leaves none that is not ready', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const env = { IPC_BUS_DIR: at.path }
  const lines: string[] = []
  const stdio = { stderr: (line: string) => void lines.push(line) }
  const early = await t.throwsAsync<RingbellError>(
    spawnAndWait(bus, { service: 'price', command: 'sh', args: ['-c', 'echo why >&2; exit 3'], stdio }),
  )
  t.is(early?.code, 'ERR_RINGBELL_EXITED')
  t.deepEqual(early?.cause, { exited: true, exitCode: 3, signal: null, stderr: ['why'] })
  t.deepEqual(lines, ['why'])
  // It announces, but another name.
  const pids: number[] = []
  const args = announcing('other', 'console.error(process.pid)')
  const told = { stderr: (line: string) => void pids.push(Number(line)) }
  const late = spawnAndWait(bus, { service: 'price', command: process.execPath, args, env, stdio: told, timeout: 3000 })
  t.is(await codeOf(() => late), 'ERR_RINGBELL_TIMEOUT')
  for (const pid of pids) t.false(runs(pid))
  // Its record is no service any more, and goes with the next cleaning.
  await until(async () => {
    await bus.gc()
    return at.files().length === 0
  })
})

test('what a wrapper has started is named when the wrapper itself announces nothing', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const env = { IPC_BUS_DIR: at.path }
  const script = ['-c', '"$@"; true', 'wrapper', process.execPath, ...announcing('price')]
  const wrapper = await started(t, 'sh', script, { tied: 'tree', env })
  const service = await bus.services.waitFor('price')
  const others = (): Service[] => bus.services.list()
  const error = await t.throwsAsync(untilAnnounced(wrapper as never, 'price', () => () => {}, { timeout: 1, others }))
  t.regex(error?.message ?? '', new RegExp(`but process ${service.pid}, which it started, did`))
  wrapper.forceKill()
  await until(async () => {
    await bus.gc()
    return at.files().length === 0
  })
})
