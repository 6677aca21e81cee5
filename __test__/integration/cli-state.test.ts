/** `ringbell state`: a value is set by one process, and read and watched by others. */
import test from 'ava'
import { Bus } from 'ringbell'
import { scene, values } from '../helpers/cli-process.js'

test('a value is held while a command runs, read and watched', async (t) => {
  const stage = scene(t)
  const watcher = stage.start(['state', 'watch', 'limits', '--count', '2'])
  const holder = stage.start([
    'state',
    'set',
    'limits',
    '100',
    '--',
    'sh',
    '-c',
    'echo "$RINGBELL_STATE"; read line; exit 5',
  ])
  await holder.shows(/limits\n/)
  await watcher.shows(/100\n/)
  const got = await stage.run(['state', 'get', 'limits'])
  t.deepEqual([got.code, got.stdout.toString()], [0, '100\n'])
  const json = await stage.run(['state', 'get', 'limits', '--json'])
  t.like(values(json.stdout)[0], { state: 'limits', version: 1, text: '100' })
  const other = await stage.run(['state', 'set', 'limits', '200'])
  t.is(other.code, 1)
  t.regex(other.stderr, /ERR_RINGBELL_REFUSED/)
  holder.kill('SIGTERM')
  await holder.end
  const bus = await Bus.open({ path: stage.bus })
  const state = await bus.state('limits')
  state.set(Buffer.from('200'))
  t.is((await watcher.end).stdout.toString(), '100\n200\n')
  await bus.close()
})

test('lines of stdin are values, and nothing in time is an error', async (t) => {
  const stage = scene(t)
  const none = await stage.run(['state', 'get', 'limits', '--timeout', '50ms'])
  t.is(none.code, 3)
  const watcher = stage.start(['state', 'watch', 'limits', '--count', '1'])
  const done = await stage.run(['state', 'set', 'limits', '-'], 'a\nb\n')
  t.is(done.code, 0)
  t.true(['a\n', 'b\n', ''].includes(watcher.stdout.toString()))
  watcher.kill('SIGTERM')
  await watcher.end
  t.is((await stage.run(['state', 'get', 'limits', 'x'])).code, 2)
  t.is((await stage.run(['state', 'set', 'limits'])).code, 2)
})

test('a state with keys ends a read at once, and both kinds are reported', async (t) => {
  const stage = scene(t)
  const bus = await Bus.open({ path: stage.bus })
  const state = await bus.state('limits', { codec: 'json' })
  state.set({ most: 3 })
  await bus.keyedState('keyed')
  for (const action of ['get', 'watch']) {
    const { code, stderr } = await stage.run(['state', action, 'keyed'])
    t.is(code, 1)
    t.regex(stderr, /'keyed' is a state with keys, .*ERR_RINGBELL_REFUSED/)
  }
  const text = (await stage.run(['stats', 'limits'])).stdout.toString()
  for (const line of [/value +\{"most":3\}/, /version +1\n/, /epoch +\d+/, /up to 16 KiB/, /0 other readers/])
    t.regex(text, line)
  const [json] = JSON.parse((await stage.run(['stats', 'limits', '--json'])).stdout.toString()) as unknown[]
  t.like(json, { kind: 'state', state: { kind: 'value', version: 1, current: { value: { most: 3 } } } })
  t.regex((await stage.run(['inspect', 'limits'])).stdout.toString(), /up to 64 readers(.|\n)*value +\{"most":3\}/)
  t.regex((await stage.run(['inspect', 'keyed'])).stdout.toString(), /a value for each key/)
  await bus.close()
})

test('JSON must be JSON, and a writer stands by', async (t) => {
  const stage = scene(t)
  const wrong = await stage.run(['state', 'set', 'limits', 'oops', '--codec', 'json'])
  t.is(wrong.code, 1)
  t.regex(wrong.stderr, /must be given as JSON/)
  const bus = await Bus.open({ path: stage.bus })
  const state = await bus.state('limits')
  const standby = stage.start(['state', 'set', 'limits', '2', '--standby', '--', 'echo', 'its turn'])
  await state.close()
  t.is((await standby.end).stdout.toString(), 'its turn\n')
  await bus.close()
})
