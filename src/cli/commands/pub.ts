/**
 * `ringbell pub <topic>`: publishes its input as messages (see input.ts). It reads no faster than the slowest
 * subscriber, so the command in front of it is slowed down and nothing is lost. It ends when its input has ended and
 * every attached subscriber has read everything.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import type { Publisher, Overflow } from '../../index.js'
import { type AccessFlags, accessOf, withAccess } from '../access.js'
import {
  counted,
  duration,
  DURATIONS,
  parseCount,
  parseDuration,
  parseRate,
  parseSize,
  perSecond,
  size,
} from '../figures.js'
import { type HeaderFlags, withHeaders } from '../headers.js'
import { Input, type InputFlags, withInput } from '../input.js'
import { withExamples } from '../manual.js'
import { withSubscriber } from '../meeting.js'
import { shellCodec } from '../payloads.js'
import { Sender } from '../sender.js'
import { runSession, type Session } from '../session.js'

interface PubOptions extends AccessFlags, HeaderFlags, InputFlags {
  codec?: string
  schemaId?: string
  capacity?: number
  overflow?: Overflow
  evictAfter?: number
  maxSubscribers?: number
  rate?: number
  waitSubscriber?: boolean
  drain: boolean
}

/** Milliseconds between two checks for subscribers that are behind. There is no event for that. */
const LOOK_MS = 5

export function pub(): Command {
  const command = new Command('pub')
    .summary('publish stdin, one message for each line')
    .description(
      'Publishes stdin, one message for each line, or DATA as one message. It slows down to the slowest subscriber, so ' +
        'nothing is lost. Messages sent while no subscriber is attached stay in the ring for `sub --from earliest` until ' +
        'newer ones overwrite them, or `pub` ends.',
    )
    .argument('<topic>', 'topic name to publish under')
  withInput(command, 'message')
    .option(
      '--codec <id>',
      'codec to announce, such as json; the bytes are sent as they come (with structured, the input is JSON)',
    )
    .option('--schema-id <id>', 'id of the schema to announce, such as reading/2')
    .option('--capacity <size>', 'bytes of the ring, a power of two (default: 1M)', parseSize)
    .addOption(
      new Option('--overflow <policy>', 'what to do when the ring is full (default: block)').choices([
        'block',
        'drop-oldest',
        'drop-newest',
      ]),
    )
    .option(
      '--evict-after <duration>',
      `drop a subscriber that stalls the topic for longer ${DURATIONS}`,
      parseDuration,
    )
    .option('--max-subscribers <n>', 'slots for subscribers (default: 64)', parseCount)
    .option('-r, --rate <n>', 'at most this many messages per second', parseRate)
    .option(
      '-w, --wait-subscriber',
      'send nothing before the first subscriber is attached (`stats` and `inspect` count as one)',
    )
    .option('--no-drain', 'at the end, do not wait until subscribers have read everything')
  return withExamples(withAccess(withHeaders(command, 'each message')), [
    'journalctl -f | ringbell pub logs',
    'ringbell pub greetings hello --wait-subscriber --header tenant=acme',
    'ringbell pub images --whole --file picture.png',
    'journalctl -f | ringbell pub logs --group adm --mode 660',
  ]).action((topic: string, data: string | undefined, options: PubOptions, command: Command) =>
    runSession(command, 'make', (session) => publish(session, topic, data, options)),
  )
}

async function publish(
  { bus, out, signal }: Session,
  topic: string,
  data: string | undefined,
  options: PubOptions,
): Promise<void> {
  const { capacity, overflow, evictAfter, maxSubscribers, codec: id = 'bytes', schemaId } = options
  const codec = shellCodec(id)
  const input = await Input.open(data, options, signal)
  let publisher: Publisher | undefined
  try {
    publisher = await bus.publisher(topic, {
      capacity,
      overflow,
      evictAfter,
      maxSubscribers,
      codec,
      schemaId,
      access: accessOf(options),
    })
    const { rate, header } = options
    const sender = new Sender(publisher, codec, { overflow, rate, header }, signal)
    let begin = performance.now()
    try {
      if (options.waitSubscriber === true) {
        out.note(`${topic}: waiting for a subscriber`)
        await withSubscriber(publisher, signal)
        begin = performance.now()
      }
      if (input.isTyped) out.note(`${topic}: every line is a message, Ctrl-D ends`)
      for await (const messages of input.messages(sender.limit)) await sender.send(messages)
      if (options.drain) await drained(publisher, out, signal)
    } finally {
      await summarize(out, topic, publisher, sender, (performance.now() - begin) / 1000)
    }
  } finally {
    await input.close()
    await publisher?.close()
  }
}

async function summarize(
  out: Session['out'],
  topic: string,
  publisher: Publisher,
  { messages, bytes, dropped }: Sender,
  seconds: number,
): Promise<void> {
  if (out.json) return out.value({ topic, publisher: publisher.service.id, messages, bytes, dropped, seconds })
  const rate = messages > 1 ? `, ${perSecond(messages / seconds)}` : ''
  const drops = dropped > 0 ? `, ${counted(dropped, 'message')} dropped` : ''
  out.note(`${topic}: ${counted(messages, 'message')}, ${size(bytes)} in ${duration(seconds * 1e9)}${rate}${drops}`)
}

/** Waits until every attached subscriber has read everything, has died or was evicted. */
async function drained(publisher: Publisher, out: Session['out'], signal: AbortSignal): Promise<void> {
  const behind = (): number => publisher.stats().subscribers.filter(isBehind).length
  if (behind() === 0) return
  out.note(`waiting for ${counted(behind(), 'subscriber')} to read the rest`)
  while (behind() > 0) await sleep(LOOK_MS, undefined, { signal })
}

function isBehind({ state, backlog }: { state: string; backlog: number }): boolean {
  return (state === 'active' || state === 'joining') && backlog > 0
}
