/**
 * `ringbell push <queue>`: pushes its input as jobs of a work queue (see input.ts). The queue is in this process, so the
 * process ends when every job is done or given up. It reports on stderr the jobs that were given up, and how many are
 * lost when it is interrupted.
 */
import { Command, Option } from 'commander'
import type { Queue } from '../../index.js'
import { type AccessFlags, accessOf, withAccess } from '../access.js'
import { EXIT, type ExitCode, sentenceOf } from '../exit-codes.js'
import { counted, duration, DURATIONS, parseCount, parseDuration, parseSize } from '../figures.js'
import { Input, type InputFlags, withInput } from '../input.js'
import { withExamples } from '../manual.js'
import { jsonOf, shellCodec } from '../payloads.js'
import { placeOf, runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'

interface PushOptions extends AccessFlags, InputFlags {
  codec: string
  schemaId?: string
  capacity?: number
  attempts?: number
  timeout?: number
  limit?: number
}

/** How many bytes of a job an error shows. */
const SHOWN = 80

export function push(): Command {
  const command = new Command('push')
    .summary('give jobs to workers, one job for each line')
    .description(
      'Pushes stdin to a work queue, one job for each line, or DATA as one job. Each job goes to one worker (`work`, or ' +
        'bus.worker()), and to another one if that fails or dies. It ends when all jobs are done, with exit code 1 if one ' +
        'was given up. The queue is in this process: jobs that are not done when it is interrupted are lost.',
    )
    .argument('<queue>', 'queue name to push under')
  withInput(command, 'job')
    .option(
      '--codec <id>',
      'codec to announce, such as json; the bytes are sent as they come (with structured, the input is JSON)',
      'bytes',
    )
    .option('--schema-id <id>', 'id of the schema to announce, such as reading/2')
    .option('--capacity <size>', "bytes of each worker's rings, a power of two (default: 64K)", parseSize)
    .option('-a, --attempts <n>', 'deliveries of a job before it is given up (default: 5)', parseCount)
    .addOption(
      new Option(
        '-t, --timeout <duration>',
        `time limit for one job; then it goes to another worker (default: no limit) ${DURATIONS}`,
      ).argParser(parseDuration),
    )
    .option('--limit <n>', 'the most jobs that are not done; further input waits (default: 65536)', parseCount)
  return withExamples(withAccess(command), [
    "find . -name '*.png' | ringbell push thumbnails",
    'ringbell push thumbnails picture.png --attempts 2',
  ]).action((name: string, data: string | undefined, options: PushOptions, command: Command) =>
    runSession(command, 'make', (session) => give(session, name, data, options)),
  )
}

async function give(
  { bus, out, signal }: Session,
  name: string,
  data: string | undefined,
  options: PushOptions,
): Promise<ExitCode> {
  const { codec, schemaId, capacity, attempts, timeout, limit } = options
  const begin = performance.now()
  const input = await Input.open(data, options, signal)
  let queue: Queue | undefined
  try {
    queue = await bus.queue(name, {
      codec: shellCodec(codec),
      schemaId,
      maxMessage: LARGEST.bytes,
      capacity,
      attempts,
      timeout,
      limit,
      access: accessOf(options),
    })
    tellOf(queue, name, codec, out)
    out.note(`${name}: ${input.isTyped ? 'every line is a job, Ctrl-D ends' : `jobs for workers on ${placeOf(bus)}`}`)
    try {
      await pushAll(queue, input, signal)
      await queue.drained({ signal })
    } finally {
      await summarize(queue, name, out, (performance.now() - begin) / 1000)
    }
    return queue.stats().failed > 0 ? EXIT.failure : EXIT.ok
  } finally {
    await input.close()
    await queue?.close()
  }
}

async function pushAll(queue: Queue, input: Input, signal: AbortSignal): Promise<void> {
  for await (const jobs of input.messages(LARGEST))
    for (const job of jobs) while (!queue.push(job)) await queue.ready({ signal })
}

function tellOf(queue: Queue, name: string, codec: string, out: Session['out']): void {
  queue.on('connected', ({ peer }) => out.note(`${name}: worker ${peer.pid} has connected`))
  queue.on('deadLetter', (job, error) => {
    const text = Buffer.from(job)
    const shown = JSON.stringify(text.subarray(0, SHOWN).toString())
    out.report(`${name}: gave up ${shown}${text.length > SHOWN ? '…' : ''}: ${sentenceOf(error)}`, {
      event: 'deadLetter',
      ...jsonOf(text, codec),
      code: (error as { code?: unknown }).code,
      message: error.message,
    })
  })
  queue.on('failed', ({ code, message }) =>
    out.report(`${name}: ${message} (${code})`, { event: 'failed', code, message }),
  )
}

async function summarize(queue: Queue, name: string, out: Session['out'], seconds: number): Promise<void> {
  const { pushed, acknowledged, redelivered, failed, waiting, assigned } = queue.stats()
  const left = waiting + assigned
  if (left > 0)
    out.report(`${name}: ${counted(left, 'job')} lost, because no worker has done them yet`, { event: 'lost', left })
  if (out.json) return out.value({ queue: name, pushed, acknowledged, redelivered, failed, left, seconds })
  const more = [
    redelivered > 0 ? `, ${counted(redelivered, 'redelivery', 'redeliveries')}` : '',
    failed > 0 ? `, ${failed} given up` : '',
  ]
  out.note(`${name}: ${counted(acknowledged, 'job')} done in ${duration(seconds * 1e9)}${more.join('')}`)
}
