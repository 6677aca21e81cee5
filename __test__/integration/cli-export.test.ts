/** `ringbell export`: to stdout and to files, once and again and again, with a command that may fail. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Bus } from 'ringbell'
import { Child } from '../helpers/child.js'
import { MAIN, type Scene, scene, values } from '../helpers/cli-process.js'
import { until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

interface Changed {
  format: string
  file?: string
  services: number
  text: string
}

async function busOf(t: ExecutionContext, stage: Scene): Promise<Bus> {
  const bus = await Bus.open({ path: stage.bus })
  t.teardown(() => bus.close())
  return bus
}

test('export prints every format once, and says what it leaves out', async (t) => {
  const stage = scene(t)
  const bus = await busOf(t, stage)
  await bus.announce('api', { endpoints: { http: '127.0.0.1:80' } })
  await bus.announce('sock', { endpoints: { http: 'unix:/run/sock' } })
  const output = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await stage.run(['export', ...args])
    t.is(code, 0, stderr)
    return stdout.toString()
  }
  t.deepEqual(Object.keys(JSON.parse(await output()) as object), ['api', 'sock'])
  t.is(await output('api', '--format', 'env'), 'API_HTTP=127.0.0.1:80\nAPI_HTTP_ALL=127.0.0.1:80\n')
  t.regex(await output('-f', 'nginx'), /upstream api .*upstream sock /s)
  const [changed] = values<Changed>(Buffer.from(await output('--json', '--format', 'hosts', 'api')))
  t.like(changed, { format: 'hosts', services: 1 })
  const { stdout, stderr } = await stage.run(['export', '-f', 'prometheus'])
  t.is((JSON.parse(stdout.toString()) as unknown[]).length, 1)
  t.regex(stderr, /left out sock@[0-9a-f]+: Prometheus cannot scrape a Unix socket/)
})

test('export writes a file, and runs a command if it changed', async (t) => {
  const [stage, files] = [scene(t), folder(t)]
  const bus = await busOf(t, stage)
  await bus.announce('api', { endpoints: { http: '127.0.0.1:80' } })
  const file = join(files, 'api.env')
  const args = [
    'export',
    'api',
    '-f',
    'env',
    '-o',
    file,
    '-x',
    `echo x >> ${files}/ran; test "$RINGBELL_EXPORT_FILE" = ${file}`,
  ]
  t.like(await stage.run(args), { code: 0, stdout: Buffer.alloc(0) })
  t.like(await stage.run(args), { code: 0 })
  t.is(readFileSync(join(files, 'ran'), 'utf8'), 'x\n', 'the second time nothing changed')
  await bus.announce('api', { endpoints: { http: '127.0.0.1:81' } })
  const failed = await stage.run(['export', 'api', '-f', 'env', '-o', file, '-x', 'exit 4'])
  t.is(failed.code, 1)
  t.regex(failed.stderr, /'exit 4' ended with exit code 4.*ERR_RINGBELL_EXITED/s)
  t.regex(readFileSync(file, 'utf8'), /:81/)
  t.like(await stage.run(['export', '-x', 'true']), { code: 2 })
  t.like(await stage.run(['export', '-f', 'xml']), { code: 2 })
  t.like(await stage.run(['export', '-o', join(files, 'no', 'file')]), { code: 1 })
})

test('export --watch keeps a file current, whatever its command does, and ends by a signal', async (t) => {
  const [stage, files] = [scene(t), folder(t)]
  const bus = await busOf(t, stage)
  const file = join(files, 'services.json')
  // The first run hangs, later ones fail.
  const hook = `if test -e ${files}/hung; then echo again >> ${files}/failed; exit 1; fi; touch ${files}/hung; sleep 1000`
  const args = ['export', '--json', '-o', file, '--watch', '--exec', hook, '--exec-timeout', '500ms']
  const exporting = stage.start(args)
  await until(() => existsSync(join(files, 'hung')))
  const added = await bus.announce('api', { endpoints: { http: '127.0.0.1:80' } })
  await until(() => existsSync(join(files, 'failed')))
  await added.close()
  await until(() => readFileSync(file, 'utf8') === '{}\n')
  exporting.kill('SIGTERM')
  const { code, stdout, stderr } = await exporting.end
  t.is(code, 143)
  t.regex(stderr, /longer than 500 ms.*exit code 1/s)
  t.deepEqual(
    values<Changed>(stdout)
      .map(({ services }) => services)
      .slice(0, 2),
    [0, 1],
  )
  t.deepEqual(readdirSync(files).sort(), ['failed', 'hung', 'services.json'])
})

test('export --watch runs its command at the start, also if the file is right', async (t) => {
  const [stage, files] = [scene(t), folder(t)]
  await busOf(t, stage)
  const file = join(files, 'services.json')
  writeFileSync(file, '{}\n')
  const exporting = stage.start(['export', '-o', file, '--watch', '--exec', `touch ${files}/ran`])
  await until(() => existsSync(join(files, 'ran')))
  exporting.kill('SIGTERM')
  t.is((await exporting.end).code, 143)
})

test('export --watch prints each change to stdout', async (t) => {
  const stage = scene(t)
  const bus = await busOf(t, stage)
  const exporting = stage.start(['export', 'api', '--format', 'hosts', '--watch'])
  await exporting.shows('# Written')
  await bus.announce('api', { endpoints: { http: '127.0.0.9:80' } })
  await exporting.shows('127.0.0.9 api\n')
  exporting.kill('SIGINT')
  t.is((await exporting.end).code, 130)
})

const namespaces = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0
if (!namespaces) console.error('*** NOT TESTED, because mounts need root: a full disk ***')
const onOwnDisk = namespaces ? test : test.skip

onOwnDisk('a full disk leaves the old file, and the new one comes when there is room', async (t) => {
  const [stage, files] = [scene(t), folder(t)]
  const bus = await busOf(t, stage)
  const disk = join(files, 'disk')
  mkdirSync(disk)
  await bus.announce('first', { endpoints: { http: '127.0.0.1:80' } })
  const script =
    'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" "$3" export --watch --json --out "$1/services.json"'
  const words = ['--mount', 'sh', '-c', script, 'sh', disk, process.execPath, MAIN]
  const exporting = new Child('unshare', words, { env: { IPC_BUS_DIR: stage.bus } })
  t.teardown(() => exporting.ended())
  await exporting.shows('"services":1')
  // The disk is mounted in its name space only.
  const there = join('/proc', String(exporting.pid), 'root', disk)
  const filler = join(there, 'filler')
  t.throws(() => writeFileSync(filler, Buffer.alloc(128 * 1024)), { code: 'ENOSPC' })
  await bus.announce('second', { endpoints: { http: '127.0.0.1:81' } })
  await until(() => exporting.stderr.includes('ENOSPC'))
  const now = JSON.parse(readFileSync(join(there, 'services.json'), 'utf8')) as object
  t.deepEqual(Object.keys(now), ['first'])
  t.deepEqual(readdirSync(there).sort(), ['filler', 'services.json'])
  writeFileSync(filler, '')
  await exporting.shows('"services":2')
  exporting.kill('SIGTERM')
  t.is((await exporting.end).code, 143)
})
