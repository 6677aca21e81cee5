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
