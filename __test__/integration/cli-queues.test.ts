/** `ringbell push` and `work`: a command does each job once, and again if it failed. Jobs that are not done are reported. */
import test from 'ava'
import { Bus } from 'ringbell'
import { scene, values } from '../helpers/cli-process.js'

test('jobs are done by commands, and push ends when all are done', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'words', '--json']).feed('one\ntwo\nthree\n')
  const work = await stage.run(['work', 'words', '-n', '3', '--', 'sh', '-c', 'tr a-z A-Z; echo " $RINGBELL_SERVICE"'])
  t.deepEqual([work.code, work.stderr], [0, ''])
  t.deepEqual(work.stdout.toString(), 'ONE words\nTWO words\nTHREE words\n')
  const { code, stdout, stderr } = await push.end
  t.deepEqual([code, stderr], [0, ''])
  t.like(values(stdout)[0], { queue: 'words', pushed: 3, acknowledged: 3, redelivered: 0, failed: 0, left: 0 })
})

test('a worker with --count takes that many jobs, and leaves the rest to others', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'many']).feed('1\n2\n3\n4\n5\n6\n')
  const first = await stage.run(['work', 'many', '-n', '4'])
  const second = await stage.run(['work', 'many', '-n', '2', '--json'])
  t.deepEqual([first.code, second.code, (await push.end).code], [0, 0, 0])
  const lines = first.stdout.toString().trim().split('\n')
  t.is(lines.length, 4)
  const texts = [...lines, ...values<{ queue: string; text: string }>(second.stdout).map(({ text }) => text)]
  t.deepEqual(texts.sort(), ['1', '2', '3', '4', '5', '6'])
})

test('with --json, a line for each job has the output of its command, too', async (t) => {
  const stage = scene(t)
  stage.start(['push', 'lines']).feed('one\n')
  const work = await stage.run(['work', 'lines', '-n', '1', '--json', '--', 'tr', 'a-z', 'A-Z'])
  t.deepEqual([work.code, work.stderr], [0, ''])
  t.deepEqual(values(work.stdout), [{ queue: 'lines', text: 'one', output: { text: 'ONE' } }])
})

test('several jobs are done at once', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'pair']).feed('1\n2\n')
  // Each command waits until the other one has begun, which files in the folder show.
  const both = 'touch "$0/begun-$(cat)"; until test -e "$0/begun-1" -a -e "$0/begun-2"; do sleep 0.01; done'
  const work = await stage.run(['work', 'pair', '-n', '2', '-j', '2', '--', 'sh', '-c', both, stage.bus])
  t.deepEqual([work.code, work.stderr, (await push.end).code], [0, '', 0])
})

test('a failed job comes again, and is given up after its attempts', async (t) => {
  const stage = scene(t)
  const again = stage.start(['push', 'again', '--json', 'job']).feed('')
  const stubborn = stage.start(['work', 'again', '--', 'sh', '-c', 'test "$RINGBELL_REDELIVERED" = 1 && echo done'])
  t.like(values((await again.end).stdout)[0], { pushed: 1, acknowledged: 1, redelivered: 1 })
  t.is(stubborn.stdout.toString(), 'done\n')
  t.regex(stubborn.stderr, /^ringbell: again: sh ended with exit code 1 \(ERR_COMMAND_FAILED\)\n/)
  stage.start(['work', 'bad', '--', 'false'])
  const bad = await stage.run(['push', 'bad', '--attempts', '2', 'job'])
  t.is(bad.code, 1)
  t.regex(bad.stderr, /^ringbell: bad: gave up "job": false ended with exit code 1 \(ERR_COMMAND_FAILED\)\n$/)
})

test('an interrupted push reports the jobs that are not done', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'left']).feed('1\n2\n')
  await stage.until<unknown[]>(['ls', 'left'], (found) => found.length === 1)
  const bus = await Bus.open({ path: stage.bus })
  // A worker has one of them, so both are pushed or will be in a moment.
  const taken = await new Promise((resolve) => void bus.worker('left', (job) => new Promise(() => resolve(job))))
  t.is(Buffer.from(taken as Uint8Array).toString(), '1')
  push.process.kill('SIGINT')
  const { code, stderr } = await push.end
  await bus.close()
  t.is(code, 130)
  t.is(stderr, 'ringbell: left: 2 jobs lost: no worker had done them\n')
})

test('an interrupted worker ends cleanly; without a queue it is exit code 3', async (t) => {
  const stage = scene(t)
  stage.start(['push', 'slow']).feed('1\n')
  const work = stage.start(['work', 'slow', '--', 'sh', '-c', 'echo started >&2; exec sleep 60'])
  await new Promise<void>((resolve) =>
    work.process.stderr.on('data', () => work.stderr.includes('started') && resolve()),
  )
  work.process.kill('SIGINT')
  t.is((await work.end).code, 130)
  const none = await stage.run(['work', 'nobody', '-t', '50ms'])
  t.is(none.code, 3)
  t.regex(none.stderr, /No process pushes to 'nobody' on .*ERR_RINGBELL_NOT_FOUND/)
  for (const command of ['stats', 'inspect'])
    t.regex((await stage.run([command, 'slo*'])).stderr, /No process announces 'slo\*' .*takes a name, not a pattern/)
})

test('work ends with exit code 1 after a failed job, also if the job is done later', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'twice', 'job'])
  const work = await stage.run(['work', 'twice', '-n', '2', '--', 'sh', '-c', 'test "$RINGBELL_REDELIVERED" = 1'])
  t.is(work.code, 1)
  t.regex(work.stderr, /^ringbell: twice: sh ended with exit code 1 \(ERR_COMMAND_FAILED\)\n$/)
  t.is((await push.end).code, 0)
})

test('push --result prints what the workers return, and reports what failed', async (t) => {
  const stage = scene(t)
  const push = stage.start(['push', 'upper', '--result', '--attempts', '1']).feed('one\nbad\ntwo\n')
  const json = stage.start(['push', 'same', '--result', '--json', '--codec', 'json']).feed('[1]\n')
  const shout = stage.start(['work', 'upper', '--', 'sh', '-c', 'read w; test $w != bad && echo $w | tr a-z A-Z'])
  stage.start(['work', 'same', '--', 'cat'])
  const [plain, asJson] = await Promise.all([push.end, json.end])
  t.deepEqual([plain.code, plain.stdout.toString()], [1, 'ONE\nTWO\n'])
  t.regex(plain.stderr, /gave up "bad": sh ended with exit code 1 \(ERR_COMMAND_FAILED\)\n$/)
  const [result, summary] = values<object>(asJson.stdout)
  t.deepEqual(result, { queue: 'same', job: 1, value: [1] })
  t.like(summary, { acknowledged: 1 })
  // It prints, too.
  t.regex(shout.stdout.toString(), /ONE\n/)
  const silent = stage.start(['push', 'silent', '--result', 'job'])
  await stage.run(['work', 'silent', '-n', '1'])
  t.is((await silent.end).stdout.toString(), '\n')
})

test('push --delay and --backoff: stats and inspect tell what a queue in another process does', async (t) => {
  const stage = scene(t)
  type Told = { kind: string; queue: Record<'delayed' | 'deadLetters' | 'workers', number> }
  const later = stage.start(['push', 'later', '--delay', '1h', 'job'])
  const [told] = await stage.until<Told[]>(['stats', 'later'], ([one]) => one?.queue.delayed === 1)
  t.like(told, { kind: 'queue', queue: { workers: 0, waiting: 0, assigned: 0, pushed: 1, letters: [] } })
  later.process.kill('SIGINT')
  t.regex((await later.end).stderr, /later: 1 job lost/)

  const queue = stage.start(['push', 'mine', '--codec', 'json', '--attempts', '1'])
  queue.process.stdin.write('"bad"\n"good"\n')
  t.is((await stage.run(['work', 'mine', '-n', '1', '--', 'false'])).code, 1)
  const [mine] = await stage.until<Told[]>(['inspect', 'mine'], ([one]) => one?.queue.deadLetters === 1)
  t.like(mine, { kind: 'queue', codec: 'json', queue: { failed: 1, waiting: 1 } })
  const { stdout } = await stage.run(['inspect', 'mine'])
  t.regex(stdout.toString(), /jobs +1 job waiting, 0 delayed, 0 with a worker/)
  t.regex(stdout.toString(), /"\\"bad\\"" +1 attempt +false ended with exit code 1 \(ERR_COMMAND_FAILED\)/)
  t.regex((await stage.run(['stats', 'mine'])).stdout.toString(), /failed +1 job, 1 dead letter kept\n/)
  t.false((await stage.run(['inspect', 'mine', '--no-attach'])).stdout.toString().includes('waiting'))

  const again = stage.start(['push', 'again', '--backoff', '1h', 'job'])
  stage.start(['work', 'again', '--', 'false'])
  await stage.until<Told[]>(['stats', 'again'], ([one]) => one?.queue.delayed === 1 && one.queue.workers === 1)
  t.is(again.stderr, '')
})
