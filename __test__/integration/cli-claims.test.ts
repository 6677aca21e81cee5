/** `ringbell claim`: a command runs while its process holds the name, in one process at a time. */
import { renameSync } from 'node:fs'
import test from 'ava'
import { Bus } from 'ringbell'
import { scene, values } from '../helpers/cli-process.js'

const FOREVER = 'trap "echo bye; exit 7" TERM; echo "$RINGBELL_CLAIM $RINGBELL_EPOCH"; while :; do sleep 0.01; done'

test('a command runs while the name is held, and its exit code is passed on', async (t) => {
  const stage = scene(t)
  const { code, stdout, stderr } = await stage.run(['claim', 'x', '--', 'sh', '-c', 'echo $RINGBELL_CLAIM; exit 5'])
  t.deepEqual([code, stdout.toString(), stderr], [5, 'x\n', ''])
  t.is((await stage.run(['claim', 'x', '--', 'sh', '-c', 'kill -9 $$'])).code, 137)
  const wrong = await stage.run(['claim', 'x', '--', './no-such-command'])
  t.is(wrong.code, 1)
  t.regex(wrong.stderr, /ENOENT/)
})

test('the others wait, give up or are told', async (t) => {
  const stage = scene(t)
  const holder = stage.start(['claim', 'x', '--', 'sh', '-c', FOREVER])
  await holder.shows(/x \d+\n/)
  const epoch = Number(/\d+/.exec(holder.stdout.toString())?.[0])
  const shown = await stage.run(['claim', 'x', '--json'])
  t.is(shown.code, 0)
  t.like(values(shown.stdout)[0], { name: 'x', epoch, holder: { pid: holder.pid } })
  t.is((await stage.run(['claim', 'x'])).stdout.toString(), `x: held by process ${holder.pid}, epoch ${epoch}\n`)
  const tried = await stage.run(['claim', 'x', '--try', '--', 'echo', 'never'])
  t.deepEqual([tried.code, tried.stdout.toString()], [3, ''])
  t.is(tried.stderr, `ringbell: The claim 'x' is held by process ${holder.pid} (ERR_RINGBELL_TIMEOUT)\n`)
  const late = await stage.run(['claim', 'x', '--timeout', '50ms', '--', 'echo', 'never'])
  t.deepEqual([late.code, late.stdout.toString()], [3, ''])
  t.regex(late.stderr, /, for longer than 50 ms \(ERR_RINGBELL_TIMEOUT\)/)
  const next = stage.start(['claim', 'x', '--', 'sh', '-c', 'echo $RINGBELL_EPOCH'])
  holder.kill('SIGTERM')
  t.is((await holder.end).code, 7)
  t.regex((await holder.end).stdout.toString(), /bye\n$/)
  t.true(Number((await next.end).stdout) > epoch)
  const free = await stage.run(['claim', 'x'])
  t.deepEqual([free.code, free.stdout.toString().startsWith('x: free, epoch ')], [3, true])
})

test('the command is ended when the claim is lost', async (t) => {
  const stage = scene(t)
  const holder = stage.start(['claim', 'x', '--', 'sh', '-c', FOREVER])
  await holder.shows(/x \d+\n/)
  // It stands still while its file is lost, and another process claims the name.
  holder.kill('SIGSTOP')
  renameSync(stage.bus, `${stage.bus}-old`)
  const bus = await Bus.open({ path: stage.bus })
  const claim = await bus.claim('x')
  holder.kill('SIGCONT')
  const { code, stdout, stderr } = await holder.end
  t.is(code, 1)
  t.regex(stdout.toString(), /bye\n$/)
  t.regex(stderr, /ERR_RINGBELL_CLAIM_LOST/)
  t.true(claim.held)
  await bus.close()
})
