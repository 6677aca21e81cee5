/** A file that follows a bus: it is whole at any time, written only when it changes, and nothing that fails harms it. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { command, exportTo, type ExportChange } from 'ringbell/export'
import { replaceFile } from '../../src/export/file.js'
import { codeOf, place, until } from '../helpers/place.js'
import { folder, runs } from '../helpers/scratch.js'

const read = (file: string): string => readFileSync(file, 'utf8')
const names = (file: string): string[] => Object.keys(JSON.parse(read(file)) as object)

test('the file follows the bus, its mode stays, and a link stays a link', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const target = join(files, 'real.json')
  const file = join(files, 'services.json')
  writeFileSync(target, 'old', { mode: 0o640 })
  chmodSync(target, 0o640)
  symlinkSync('real.json', file)
  const first = await other.announce('first', { endpoints: { http: '127.0.0.1:1' } })
  const exporter = await exportTo(bus, { format: 'json', file })
  t.deepEqual(names(file), ['first'])
  t.is(statSync(target).mode & 0o7777, 0o640)
  const second = await other.announce('second', { endpoints: { http: '127.0.0.1:2' } })
  await until(() => names(file).length === 2)
  second.update({ weight: 2 })
  await until(() => read(file).includes('"weight":2'))
  await first.close()
  await until(() => names(file).length === 1)
  await exporter.close()
  t.true(exporter.closed)
  await second.close()
  t.deepEqual(readdirSync(files).sort(), ['real.json', 'services.json'])
  t.deepEqual(names(file), ['second'], 'the file stays as it was')
})

test('a device, a pipe and a folder are refused, and stay what they are', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const bus = await here.bus()
  const [pipe, link] = [join(files, 'pipe'), join(files, 'link')]
  t.is(spawnSync('mkfifo', [pipe]).status, 0)
  symlinkSync('pipe', link)
  for (const file of [pipe, link, files, '/dev/null']) {
    await t.throwsAsync(exportTo(bus, { format: 'json', file }), { message: /is no regular file/ })
    await t.throwsAsync(replaceFile(file, 'new'), { message: /is no regular file/ })
  }
  t.true(statSync(pipe).isFIFO())
  t.true(statSync('/dev/null').isCharacterDevice())
  t.deepEqual(readdirSync(files).sort(), ['link', 'pipe'])
})

test('atStart: the first text is told also if the file is right', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const bus = await here.bus()
  const file = join(files, 'services.json')
  writeFileSync(file, '{}\n')
  const before = statSync(file, { bigint: true })
  const told: string[] = []
  const onChange = ({ text }: ExportChange): void => void told.push(text)
  await (await exportTo(bus, { format: 'json', file, onChange })).close()
  t.deepEqual(told, [])
  await (await exportTo(bus, { format: 'json', file, onChange, atStart: true })).close()
  t.deepEqual(told, ['{}\n'])
  t.is(statSync(file, { bigint: true }).ino, before.ino)
})

test('a file that is right is not touched, and nothing is told', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const file = join(files, 'services.env')
  const told: ExportChange[] = []
  const options = {
    format: 'env',
    file,
    services: 'api',
    onChange: (change: ExportChange) => told.push(change),
  } as const
  await other.announce('api', { endpoints: { http: '127.0.0.1:1' } })
  await (await exportTo(bus, options)).close()
  t.is(told.length, 1)
  t.like(told[0], { file, services: 1, text: read(file), leftOut: [] })
  const before = statSync(file, { bigint: true })
  const exporter = await exportTo(bus, options)
  t.deepEqual([statSync(file, { bigint: true }).ino, told.length], [before.ino, 1])
  await other.announce('api', { endpoints: { http: '127.0.0.1:3' } })
  await until(() => told.length === 2)
  t.not(statSync(file, { bigint: true }).ino, before.ino)
  await exporter.close()
})

test('a burst is few changes, and readers never see a part of the file', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const file = join(files, 'services.json')
  let changes = 0
  const exporter = await exportTo(bus, { format: 'json', file, onChange: () => void changes++ })
  const count = 200
  for (let n = 0; n < count; n++) await other.announce(`s${n}`, { endpoints: { http: `127.0.0.1:${n + 1}` } })
  // Each read parses: a part of the file would throw.
  await until(() => names(file).length === count)
  t.true(changes < count / 2, `${changes} changes of the file`)
  await exporter.close()
})

test('what cannot be written at first is an error; what cannot be written later is tried again', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const file = join(files, 'sub', 'services.json')
  await t.throwsAsync(exportTo(bus, { format: 'json', file }), { code: 'ERR_RINGBELL_SYSTEM', message: /ENOENT/ })
  mkdirSync(join(files, 'sub'))
  const errors: Error[] = []
  const exporter = await exportTo(bus, { format: 'json', file, onError: (error) => errors.push(error) })
  rmSync(join(files, 'sub'), { recursive: true })
  await other.announce('late', { endpoints: { http: '127.0.0.1:1' } })
  await until(() => errors.length >= 2)
  t.is((errors[0] as { code?: string }).code, 'ERR_RINGBELL_SYSTEM')
  t.false(exporter.closed)
  mkdirSync(join(files, 'sub'))
  await until(() => existsSync(file))
  t.deepEqual(names(file), ['late'])
  await exporter.close()
})

test('onChange runs once at a time, is told the newest, and may throw', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const file = join(files, 'services.json')
  const told: number[] = []
  const errors: string[] = []
  let running = 0
  let release = (): void => {}
  const exporter = await exportTo(bus, {
    format: 'json',
    file,
    onError: ({ message }) => errors.push(message),
    async onChange({ services }) {
      t.is(++running, 1)
      told.push(services)
      if (told.length === 1) await new Promise<void>((resolve) => (release = resolve))
      running--
      throw new Error(`no ${services}`)
    },
  })
  for (let n = 1; n <= 5; n++) {
    await other.announce(`s${n}`, { endpoints: { http: '127.0.0.1:1' } })
    await until(() => names(file).length === n)
  }
  t.deepEqual(told, [0], 'the file is current while the callback runs')
  release()
  await until(() => errors.includes('no 5'))
  // The last one may have been on its way when the callback returned.
  t.true(told.length <= 3, told.join())
  t.deepEqual(
    errors,
    told.map((services) => `no ${services}`),
  )
  await exporter.close()
})

test('it ends by its signal and with its bus, and then writes no more', async (t) => {
  const [here, files] = [place(t), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const controller = new AbortController()
  const { signal } = controller
  const one = await exportTo(bus, { format: 'json', file: join(files, 'one'), signal })
  const two = await exportTo(bus, { format: 'json', file: join(files, 'two') })
  controller.abort()
  t.true(one.closed)
  await other.announce('x', { endpoints: { http: '127.0.0.1:1' } })
  await until(() => names(join(files, 'two')).length === 1)
  t.deepEqual(names(join(files, 'one')), [])
  await bus.close()
  t.true(two.closed)
  await two.close()
  t.is(await codeOf(() => exportTo(other, { format: 'json', file: join(files, 'x'), signal })), 'ABORT_ERR')
  t.is(await codeOf(() => exportTo(bus, { format: 'json', file: join(files, 'x') })), 'ERR_RINGBELL_CLOSED')
  t.is(await codeOf(() => exportTo(other, { format: 'json', fil: 'x' } as never)), 'ERR_RINGBELL_INVALID_OPTION')
  t.is(await codeOf(() => exportTo(other, {} as never)), 'ERR_RINGBELL_INVALID_OPTION')
})

const change = (file: string): ExportChange => ({ file, text: '', services: 0, leftOut: [] })

test('a command gets the file; its failure, a hang and a signal end as errors, with all that it started', async (t) => {
  t.timeout(60_000)
  const files = folder(t)
  const seen = join(files, 'seen')
  await command(`echo "$RINGBELL_EXPORT_FILE" > ${seen}`)(change('/some/file'))
  t.is(read(seen), '/some/file\n')
  const lines: string[] = []
  const output = (line: string): void => void lines.push(line)
  const failing = command('echo said; echo wrong >&2; exit 3', { output })(change('f'))
  await t.throwsAsync(failing, { code: 'ERR_RINGBELL_EXITED', message: /exit code 3\n {2}.*wrong/s })
  t.deepEqual(lines.sort(), ['said', 'wrong'])
  const hanging = (name: string): string => `sleep 1000 & echo $! > ${join(files, name)}; trap '' TERM; wait; wait`
  await t.throwsAsync(command(hanging('late'), { timeout: 2000 })(change('f')), { code: 'ERR_RINGBELL_TIMEOUT' })
  const controller = new AbortController()
  const cut = command(hanging('cut'), { signal: controller.signal })(change('f'))
  const pid = await until(() => existsSync(join(files, 'cut')) && Number(read(join(files, 'cut'))))
  controller.abort()
  await t.throwsAsync(cut, { name: 'AbortError' })
  await until(() => !runs(pid))
  await until(() => !runs(Number(read(join(files, 'late')))))
  t.throws(() => command(''), { code: 'ERR_RINGBELL_INVALID_OPTION' })
  t.throws(() => command('x', { timeout: 0 }), { code: 'ERR_RINGBELL_INVALID_OPTION' })
})
