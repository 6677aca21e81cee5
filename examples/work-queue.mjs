/**
 * Each message to one of several workers, until one acknowledges it. One of the three dies in the middle of its work: what
 * it held goes to another one, marked as redelivered. Run: node examples/work-queue.mjs
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Bus } from 'ringbell'

const JOBS = 30

if (process.argv[2] === 'worker') await work(process.argv[3] === 'clumsy')
else await distribute()

async function work(clumsy) {
  const bus = await Bus.open()
  process.once('disconnect', () => process.exit())
  let done = 0
  await bus.worker('example.jobs', { codec: 'json' }, async ({ n }, { redelivered }) => {
    if (clumsy && ++done === 3) process.kill(process.pid, 'SIGKILL')
    await sleep(5)
    if (redelivered) console.log(`job ${n} was somebody else's before, and is done now`)
  })
}

async function distribute() {
  const bus = await Bus.open()
  const jobs = await bus.queue('example.jobs', { codec: 'json' })
  const path = fileURLToPath(import.meta.url)
  const workers = ['clumsy', 'careful', 'careful'].map((how) => fork(path, ['worker', how]))
  jobs.on('disconnected', ({ peer }, reason) =>
    console.log(`a worker ${reason}`, peer.pid === workers[0].pid ? '(the clumsy one)' : ''),
  )
  while (jobs.workers.length < workers.length) await once(jobs, 'connected')
  for (let n = 0; n < JOBS; n++) while (!jobs.push({ n })) await jobs.ready()
  await jobs.drained()
  const { acknowledged, redelivered } = jobs.stats()
  console.log(`${acknowledged} jobs done, ${redelivered} of them delivered twice, none lost`)
  jobs.removeAllListeners()
  for (const worker of workers) if (worker.connected) worker.disconnect()
  await bus.close()
}
