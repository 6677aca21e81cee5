/**
 * `ringbell sub <topic>`: prints every message to stdout, as a line, a frame or JSON (see rendering.ts). It reads no
 * faster than stdout is read, which slows down the publisher of a `block` topic. It waits for publishers until an option
 * ends it. It reports misses, evictions, and publishers that died or that it could not attach to on stderr.
 */
import { Command, Option } from 'commander'
import { type AckMode, RingbellError, type Rung, type Subscriber } from '../../index.js'
import { EXIT, type ExitCode } from '../exit-codes.js'
import { counted, duration, DURATIONS, parseCount, parseDuration } from '../figures.js'
import { IdleTimer } from '../idle-timer.js'
import { mismatch } from '../kind-mismatch.js'
import { withExamples } from '../manual.js'
import { tellOf } from '../publisher-notes.js'
import { renderer } from '../rendering.js'
import { placeOf, runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'

interface SubOptions {
  binary?: boolean
  prefix?: boolean
  from: 'latest' | 'earliest'
  count?: number
  timeout?: number
  untilClosed?: boolean
  acquire?: Rung | 'auto'
  durable?: string
  ack?: AckMode
}

export function sub(): Command {
  const command = new Command('sub')
    .summary('print the messages of a topic')
    .description(
      'Prints every message as a line, from all publishers of a topic, or of all topics that match a pattern such as ' +
        '"sensors.*". For a pattern, each line begins with the wall clock and the topic. With --json a line is {"topic", ' +
        '"publisher", "sequence", "time", "at", "text"}: "time" is CLOCK_MONOTONIC in nanoseconds, as a string with all ' +
        'digits; "at" is the wall clock. Bytes that are not UTF-8 come as "base64". Messages of publishers with the codec ' +
        'json or structured come as "value". A structured value that JSON cannot carry is text, as Node shows it. The ' +
        'headers of a message, if it has some, are the field "headers", and stand in brackets behind the topic of a line.',
    )
    .argument('<topic>', 'topic name or pattern')
    .option('-b, --binary', 'frames instead of lines: u32 little-endian length, then that many bytes')
    .option('--prefix', 'begin each line with the wall clock and the topic (the default for a pattern)')
    .option('--no-prefix', 'print the lines as they came (the default for a name)')
    .addOption(new Option('--from <start>', 'where to begin').choices(['latest', 'earliest']).default('latest'))
    .option('-n, --count <n>', 'end after this many messages', parseCount)
    .option(
      '-t, --timeout <duration>',
      `give up if nothing comes for this long (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
    .option('-u, --until-closed', 'end when all attached publishers have ended')
    .addOption(
      new Option('--acquire <rung>', "force a rung of acquisition: the way to the publisher's memory").choices([
        'auto',
        'direct',
        'handshake',
        'stream',
      ]),
    )
    .option(
      '-d, --durable <name>',
      'keep our position under a name: the next subscriber of that name continues after the printed messages',
    )
    .addOption(
      new Option(
        '--ack <mode>',
        'when a message is acknowledged: deferred, once it is written (the default with --durable); batch, many at a time; immediate, when it is read',
      ).choices(['immediate', 'batch', 'deferred']),
    )
  return withExamples(command, ['ringbell sub logs', "ringbell sub 'sensors.*' --json --count 10"]).action(
    (topic: string, options: SubOptions, command: Command) =>
      runSession(command, 'wait', (session) => print(session, topic, options), options.timeout),
  )
}

async function print({ bus, out, signal }: Session, topic: string, options: SubOptions): Promise<ExitCode> {
  const { from, acquire, untilClosed = false, timeout, durable } = options
  const ack = options.ack ?? (durable === undefined ? 'immediate' : 'deferred')
  const subscriber = await bus.subscriber(topic, { from, acquire, durable, ack, maxMessage: LARGEST.bytes })
  const kind = options.binary === true ? 'frames' : out.json ? 'json' : 'lines'
  const render = renderer({ kind, prefix: options.prefix ?? topic.includes('*') }, subscriber)
  const ending = new Ending(subscriber, untilClosed)
  const idle = new IdleTimer(timeout, () => subscriber.close())
  tellOf(subscriber, out)
  out.note(`${topic}: waiting for publishers on ${placeOf(bus)}`)
  let left = options.count ?? Infinity
  for await (const batch of subscriber.batches({ lifetime: 'borrowed', signal })) {
    idle.stop()
    const taken = Math.min(batch.length, left)
    await out.write(render(batch, taken))
    if (ack === 'deferred') subscriber.ack(batch.sequence(taken - 1), batch.publisher)
    left -= taken
    if (left === 0) break
    idle.start()
  }
  idle.stop()
  if (idle.elapsed) throw late(topic, timeout ?? 0, options.count, left, mismatch(bus, topic, 'topic'))
  return ending.cutShort ? EXIT.failure : EXIT.ok
}

/** Notices when publishers have ended, and closes the subscriber after the last one if that is wanted. */
class Ending {
  /** A publisher died or failed instead of closing, so its stream may be incomplete. It is only set with `--until-closed`. */
  cutShort = false

  constructor(subscriber: Subscriber, untilClosed: boolean) {
    if (!untilClosed) return
    subscriber.on('ended', (_publisher, reason) => {
      if (reason !== 'closed') this.cutShort = true
      if (subscriber.publishers.length === 0) setImmediate(() => void subscriber.close())
    })
  }
}

function late(topic: string, timeout: number, wanted: number | undefined, left: number, who: string): RingbellError {
  const waited = duration(timeout * 1e6)
  const got = wanted === undefined ? '' : `; ${counted(wanted - left, 'message')} of ${wanted} came`
  return new RingbellError('ERR_RINGBELL_TIMEOUT', `Nothing came from '${topic}' for ${waited}${got}${who}`)
}
