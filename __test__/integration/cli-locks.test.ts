/** `ringbell lock` and `ringbell sem`: commands take turns, as with flock(1). */
import test from 'ava'
import { scene, values } from '../helpers/cli-process.js'

const FOREVER = 'trap "echo bye; exit 7" TERM; echo "there $RINGBELL_ABANDONED"; while :; do sleep 0.01; done'

test('a command runs while the lock is held, and its exit code is passed on', async (t) => {
  const stage = scene(t)
  const { code, stdout, stderr } = await stage.run(['lock', 'x', '--', 'sh', '-c', 'echo $RINGBELL_LOCK; exit 5'])
  t.deepEqual([code, stdout.toString(), stderr], [5, 'x\n', ''])
  t.is((await stage.run(['lock', 'x', '--', 'sh', '-c', 'kill -9 $$'])).code, 137)
  const wrong = await stage.run(['lock', 'x', '--', './no-such-command'])
  t.is(wrong.code, 1)
  t.regex(wrong.stderr, /ENOENT/)
})

test('how to wait for a turn is refused where there is nothing to run in it', async (t) => {
  const stage = scene(t)
  for (const given of [
    ['lock', 'x', '--try'],
    ['lock', 'x', '--shared'],
    ['claim', 'x', '--timeout', '1s'],
  ]) {
    const { code, stderr } = await stage.run(given)
    t.is(code, 2)
    t.true(stderr.includes(`${given[2]} needs a command to run`))
  }
})

test('the others wait, give up or share', async (t) => {
  const stage = scene(t)
  const holder = stage.start(['lock', 'x', '--', 'sh', '-c', FOREVER])
  await holder.shows(/there 0\n/)
  const shown = await stage.run(['lock', 'x', '--json'])
  t.is(shown.code, 0)
  t.deepEqual(values(shown.stdout)[0], {
    name: 'x',
    held: [{ name: 'x', pid: holder.pid, mode: 'exclusive' }],
    pending: [],
  })
  t.is((await stage.run(['lock', 'x'])).stdout.toString(), `x: held by process ${holder.pid} (exclusive)\n`)
  const tried = await stage.run(['lock', 'x', '--try', '--shared', '--', 'echo', 'never'])
  t.deepEqual([tried.code, tried.stdout.toString()], [3, ''])
  t.is(tried.stderr, "ringbell: The lock 'x' is held by others. (ERR_RINGBELL_TIMEOUT)\n")
  const late = await stage.run(['lock', 'x', '--timeout', '50ms', '--', 'echo', 'never'])
  t.deepEqual([late.code, late.stdout.toString()], [3, ''])
  t.regex(late.stderr, /within 50 ms.*\(ERR_RINGBELL_TIMEOUT\)/)
  const next = stage.start(['lock', 'x', '--', 'sh', '-c', FOREVER])
  holder.kill('SIGTERM')
  t.is((await holder.end).code, 7)
  t.regex((await holder.end).stdout.toString(), /bye\n$/)
  await next.shows(/there 0\n/)
  next.kill('SIGTERM')
  await next.end
  const free = await stage.run(['lock', 'x'])
  t.deepEqual([free.code, free.stdout.toString()], [3, 'x: free\n'])
  const shares = stage.start(['lock', '--shared', 'x', '--', 'sh', '-c', FOREVER])
  await shares.shows(/there 0\n/)
  t.is((await stage.run(['lock', '--shared', '--try', 'x', '--', 'true'])).code, 0)
  t.is((await stage.run(['lock', '--try', 'x', '--', 'true'])).code, 3)
  shares.kill('SIGTERM')
  t.is((await shares.end).code, 7)
})

test('a killed holder is followed by one that is told', async (t) => {
  const stage = scene(t)
  const holder = stage.start(['lock', 'x', '--', 'sh', '-c', 'echo there; read line'])
  await holder.shows(/there\n/)
  const next = stage.start(['lock', 'x', '--', 'sh', '-c', 'echo "abandoned $RINGBELL_ABANDONED"'])
  await stage.until<{ pending: object[] }>(['lock', 'x'], ({ pending }) => pending.length === 1)
  holder.kill('SIGKILL')
  const { code, stdout } = await next.end
  t.deepEqual([code, stdout.toString()], [0, 'abandoned 1\n'])
})

test('commands run in so many processes at a time', async (t) => {
  const stage = scene(t)
  const sem = ['sem', 'x', '--permits', '2']
  const holders = [1, 2].map(() => stage.start([...sem, '--', 'sh', '-c', FOREVER]))
  for (const holder of holders) await holder.shows(/there/)
  const tried = await stage.run([...sem, '--try', '--', 'echo', 'never'])
  t.deepEqual([tried.code, tried.stdout.toString()], [3, ''])
  t.is(tried.stderr, "ringbell: The semaphore 'x' is held by others. (ERR_RINGBELL_TIMEOUT)\n")
  t.is((await stage.run([...sem, '--timeout', '50ms', '--', 'true'])).code, 3)
  t.is((await stage.run(['sem', 'x', '--permits', '3', '--', 'true'])).code, 2)
  const both = stage.start([...sem, '--take', '2', '--', 'sh', '-c', 'echo $RINGBELL_SEMAPHORE; exit 4'])
  for (const holder of holders) holder.kill('SIGTERM')
  const { code, stdout } = await both.end
  t.deepEqual([code, stdout.toString()], [4, 'x\n'])
  t.is((await stage.run(['sem', 'x', '--', 'true'])).code, 2)
})
