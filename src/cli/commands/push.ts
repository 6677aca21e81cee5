/**
 * `ringbell push <queue>`: pushes its input as jobs of a work queue (see input.ts). The queue is in this process, so the
 * process ends when every job is done or given up. It reports on stderr the jobs that were given up, and how many are
 * lost when it is interrupted.
 */
import { Command, Option } from 'commander'
import type { PushOptions, Queue, RingbellError } from '../../index.js'
import { type AccessFlags, accessOf, withAccess } from '../access.js'
import { EXIT, type ExitCode, sentenceOf } from '../exit-codes.js'
import { counted, duration, DURATIONS, parseCount, parseDuration, parseSize } from '../figures.js'
import { type HeaderFlags, withHeaders } from '../headers.js'
import { Input, type InputFlags, withInput } from '../input.js'
import { withExamples } from '../manual.js'
import { payloadFields, shellCodec } from '../payloads.js'
import { shownJob } from '../queue-counters.js'
import { placeOf, runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'

interface PushFlags extends AccessFlags, HeaderFlags, InputFlags {
  codec: string
  schemaId?: string
  capacity?: number
  attempts?: number
  timeout?: number
  limit?: number
  delay?: number
  backoff?: number
  result?: boolean
}

/** How many bytes of a job an error shows. */
const SHOWN = 80
const NEWLINE = 0x0a

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
    .addOption(
      new Option('--delay <duration>', `how long after it is pushed a job is given to a worker ${DURATIONS}`).argParser(
        parseDuration,
      ),
    )
    .addOption(
      new Option(
        '--backoff <duration>',
        `pause before a job is tried again; it doubles each time, up to 30 s (default: no pause) ${DURATIONS}`,
      ).argParser(parseDuration),
    )
    .option('-r, --result', 'print what the workers return, one line for each job, in the order in which they are done')
    .option('--limit <n>', 'the most jobs that are not done; further input waits (default: 65536)', parseCount)
  return withExamples(withAccess(withHeaders(command, 'each job')), [
    "find . -name '*.png' | ringbell push thumbnails",
    'ringbell push thumbnails picture.png --attempts 2',
    'printf "1\\n2\\n" | ringbell push squares --result',
  ]).action((name: string, data: string | undefined, options: PushFlags, command: Command) =>
    runSession(command, 'make', (session) => give(session, name, data, options)),
  )
}

async function give(
  { bus, out, signal }: Session,
  name: string,
  data: string | undefined,
  options: PushFlags,
): Promise<ExitCode> {
  const { codec, schemaId, capacity, attempts, timeout, limit, backoff } = options
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
      backoff: backoff === undefined ? undefined : { delay: backoff },
      access: accessOf(options),
    })
    tellOf(queue, name, codec, out)
    out.note(`${name}: ${input.isTyped ? 'every line is a job, Ctrl-D ends' : `jobs for workers on ${placeOf(bus)}`}`)
    try {
      const results = options.result === true ? new Results(queue, name, codec, out) : undefined
      await pushAll(queue, input, results, { delay: options.delay, headers: options.header }, signal)
      await queue.drained({ signal })
      await results?.all()
    } finally {
      await summarize(queue, name, out, (performance.now() - begin) / 1000)
    }
    return queue.stats().failed > 0 ? EXIT.failure : EXIT.ok
  } finally {
    await input.close()
    await queue?.close()
  }
}

async function pushAll(
  queue: Queue,
  input: Input,
  results: Results | undefined,
  options: PushOptions,
  signal: AbortSignal,
): Promise<void> {
  for await (const jobs of input.messages(LARGEST))
    for (const job of jobs) {
      if (results !== undefined) {
        await queue.ready({ signal })
        await results.printed
        results.run(job, options)
      } else while (!queue.push(job, options)) await queue.ready({ signal })
    }
}

/** Runs jobs and prints their results, at the pace of the reader. */
class Results {
  /** Resolves when the results that have come are written. */
  printed: Promise<void> = Promise.resolve()
  readonly #queue: Queue
  readonly #name: string
  readonly #codec: string
  readonly #out: Session['out']
  readonly #running = new Set<Promise<void>>()
  #jobs = 0

  constructor(queue: Queue, name: string, codec: string, out: Session['out']) {
    this.#queue = queue
    this.#name = name
    this.#codec = codec
    this.#out = out
  }

  run(job: Uint8Array, options: PushOptions): void {
    const number = ++this.#jobs
    const one = this.#queue
      .run<Uint8Array | undefined>(job, options)
      .then(
        (result) => this.#printNext(number, result),
        (error: RingbellError) => {
          // The summary counts what is lost.
          if (this.#queue.closed) return
          // The job itself is done.
          if (error.code === 'ERR_RINGBELL_MESSAGE_TOO_LARGE')
            this.#out.note(`${this.#name}: job ${number}: ${error.message}`)
          else tellGivenUp(job, error, this.#name, this.#codec, this.#out)
        },
      )
      .then(() => void this.#running.delete(one))
    this.#running.add(one)
  }

  /** Resolves when every job has been told of. Call it when all are done. */
  async all(): Promise<void> {
    await Promise.all(this.#running)
    await this.printed
  }

  #printNext(job: number, result: Uint8Array | undefined): void {
    this.printed = this.printed.then(() => this.#print(job, result))
    // An error ends the command, which waits for it, perhaps later.
    this.printed.catch(() => {})
  }

  #print(job: number, result: Uint8Array | undefined): Promise<void> | undefined {
    const bytes = Buffer.from(result ?? [])
    if (this.#out.json) return this.#out.value({ queue: this.#name, job, ...payloadFields(bytes, this.#codec) })
    return this.#out.write(bytes.at(-1) === NEWLINE ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]))
  }
}

function tellOf(queue: Queue, name: string, codec: string, out: Session['out']): void {
  queue.on('connected', ({ peer }) => out.note(`${name}: worker ${peer.pid} has connected`))
  queue.on('deadLetter', (job, error) => {
    tellGivenUp(job, error, name, codec, out)
  })
  queue.on('failed', ({ code, message }) =>
    out.report(`${name}: ${message} (${code})`, { event: 'failed', code, message }),
  )
}

function tellGivenUp(job: Uint8Array, error: Error, name: string, codec: string, out: Session['out']): void {
  const text = Buffer.from(job)
  out.report(`${name}: gave up ${shownJob(text.subarray(0, SHOWN), text.length)}: ${sentenceOf(error)}`, {
    event: 'deadLetter',
    ...payloadFields(text, codec),
    code: (error as { code?: unknown }).code,
    message: error.message,
  })
}

async function summarize(queue: Queue, name: string, out: Session['out'], seconds: number): Promise<void> {
  const { pushed, acknowledged, redelivered, failed, waiting, delayed, assigned } = queue.stats()
  const left = waiting + delayed + assigned
  if (left > 0)
    out.report(`${name}: ${counted(left, 'job')} lost: no worker had done ${left === 1 ? 'it' : 'them'}`, {
      event: 'lost',
      left,
    })
  if (out.json) return out.value({ queue: name, pushed, acknowledged, redelivered, failed, left, seconds })
  const more = [
    redelivered > 0 ? `, ${counted(redelivered, 'redelivery', 'redeliveries')}` : '',
    failed > 0 ? `, ${failed} given up` : '',
  ]
  out.note(`${name}: ${counted(acknowledged, 'job')} done in ${duration(seconds * 1e9)}${more.join('')}`)
}
