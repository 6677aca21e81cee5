/**
 * `ringbell work <queue> [-- <command>]`: does the jobs of a work queue, with one process for each, or prints them, one
 * line for each. A job is acknowledged when its command has ended with exit code 0 and its output is written. Otherwise
 * the job goes back to its queue.
 */
import { once } from 'node:events'
import { Command } from 'commander'
import { RingbellError, type Worker } from '../../index.js'
import { CommandHandler } from '../command-handler.js'
import { EXIT, type ExitCode, sentenceOf } from '../exit-codes.js'
import { counted, duration, DURATIONS, parseCount, parseDuration } from '../figures.js'
import { IdleTimer } from '../idle-timer.js'
import { firstInstance } from '../instance.js'
import { mismatch } from '../kind-mismatch.js'
import { withExamples } from '../manual.js'
import { payloadFields, shellCodec } from '../payloads.js'
import { placeOf, runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'

interface WorkOptions {
  jobs: number
  count?: number
  timeout?: number
}

type Job = Parameters<CommandHandler['reply']>

/** Milliseconds that jobs in hand have to end after an interruption. */
const GRACE_MS = 3000
/** Practically no limit, for the jobs in hand when no more are wanted. */
const LONG_MS = 2 ** 31 - 1

export function work(): Command {
  const command = new Command('work')
    .summary('do the jobs of a work queue by running a command')
    .description(
      'Does the jobs of a queue (`push`, or bus.queue()): runs a command for each job, with the job on its stdin, and prints ' +
        'the output of the command. If its exit code is not 0, the job goes back to the queue, which gives it to a worker ' +
        'again, and `work` ends with exit code 1. Without a command it prints the jobs, one line for each. With --json, a line for each job has both. `push --result` gets the output, ' +
        'too. The environment of the command has ' +
        'RINGBELL_SERVICE, RINGBELL_PEER_PID, RINGBELL_PEER_UID and RINGBELL_REDELIVERED.',
    )
    .argument('<queue>', 'queue name')
    .argument('[command...]', "the command and its arguments; after '--' they may begin with '-'")
    .option('-j, --jobs <n>', 'the most jobs at once', parseCount, 1)
    .option('-n, --count <n>', 'end after this many jobs; jobs in hand are finished first', parseCount)
    .option(
      '-t, --timeout <duration>',
      `give up if no job comes for this long (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
  return withExamples(command, ["ringbell work thumbnails -j 4 -- sh -c 'convert -resize 200 - png:$(mktemp)'"]).action(
    (name: string, words: string[], options: WorkOptions, command: Command) =>
      runSession(command, 'wait', (session) => run(session, name, words, options), options.timeout),
  )
}

async function run(session: Session, name: string, words: readonly string[], options: WorkOptions): Promise<ExitCode> {
  const { bus, out, signal } = session
  const { count = Infinity, jobs, timeout } = options
  out.note(`${name}: waiting for a queue on ${placeOf(bus)}`)
  const { codec = 'bytes' } = await firstInstance(session, name, 'queue', 'pushes to', timeout)
  const commands = words.length === 0 ? undefined : new CommandHandler(name, words, jobs)
  const ended = new AbortController()
  const over = AbortSignal.any([ended.signal, signal])
  let begun = 0
  let inHand = 0
  let failed = 0
  const end = (): void => ended.abort()
  const idle = new IdleTimer(timeout, end)
  const handle = async (...[job, context]: Job): Promise<Uint8Array | undefined> => {
    idle.stop()
    inHand++
    // Before this job gives its credit back. The worker closes when its jobs in hand are done, this one too.
    if (++begun === count) void worker.close({ grace: LONG_MS }).then(end, end)
    try {
      const output = await commands?.reply(job, context)
      await out.write(printed(name, job, output, codec, out.json))
      return output
    } catch (error) {
      failed++
      out.report(`${name}: ${sentenceOf(error)}`, { event: 'failed', message: (error as Error).message })
      throw error
    } finally {
      if (--inHand === 0) idle.start()
    }
  }
  const worker = await bus.worker(
    name,
    { codec: shellCodec(codec), concurrency: Math.min(jobs, count), maxMessage: LARGEST.bytes },
    handle,
  )
  tellOf(worker, name, out)
  if (!over.aborted) await once(over, 'abort')
  await worker.close({ grace: GRACE_MS })
  idle.stop()
  out.note(`${name}: ${counted(begun, 'job')}${failed > 0 ? `, ${failed} failed` : ''}`)
  if (idle.elapsed) {
    const waited = duration((timeout ?? 0) * 1e6)
    throw new RingbellError(
      'ERR_RINGBELL_TIMEOUT',
      `No job of '${name}' came for ${waited}${mismatch(bus, name, 'queue')}`,
    )
  }
  return failed > 0 ? EXIT.failure : EXIT.ok
}

function tellOf(worker: Worker, name: string, out: Session['out']): void {
  worker.on('connected', ({ peer }) => out.note(`${name}: works for process ${peer.pid}`))
  worker.on('disconnected', ({ peer }, reason) => {
    if (reason === 'closed') out.note(`${name}: process ${peer.pid} has closed its queue`)
    else out.report(`${name}: process ${peer.pid} is gone (${reason})`, { event: reason, pid: peer.pid })
  })
  worker.on('failed', ({ code, message }) =>
    out.report(`${name}: ${message} (${code})`, { event: 'failed', code, message }),
  )
}

/** What is printed of a job that is done: the output of its command, or the job if there is no command; with `--json` both. */
function printed(
  queue: string,
  job: Uint8Array,
  output: Uint8Array | undefined,
  codec: string,
  json: boolean,
): Uint8Array | string {
  if (!json) return output ?? Buffer.concat([job, Buffer.of(0x0a)])
  const fields = { queue, ...payloadFields(Buffer.from(job), codec) }
  if (output === undefined) return `${JSON.stringify(fields)}\n`
  return `${JSON.stringify({ ...fields, output: payloadFields(Buffer.from(output), codec) })}\n`
}
