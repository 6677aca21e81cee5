/**
 * `ringbell pub <topic>`: publishes stdin as messages, one for each line or frame. It reads no faster than the slowest
 * subscriber, so the command in front of it is slowed down and nothing is lost. It ends when its input has ended and
 * every attached subscriber has read everything.
 */
import { createReadStream } from 'node:fs'
import { addAbortSignal, type Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import type { Overflow, Publisher } from '../../index.js'
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
import { withSubscriber } from '../meeting.js'
import { rawCodec } from '../raw-codec.js'
import { Sender } from '../sender.js'
import { runSession, type Session } from '../session.js'
import { FrameSplitter, LineSplitter } from '../splitter.js'

interface PubOptions extends AccessFlags {
  file?: string
  binary?: boolean
  codec?: string
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
      'Publishes stdin, one message for each line. It slows down to the slowest subscriber, so nothing is lost.\n' +
        'Messages sent while no subscriber is attached stay in the ring for `sub --from earliest` until newer ones overwrite them.',
    )
    .argument('<topic>', 'service name to publish under')
    .option('-f, --file <path>', 'read from a file instead of stdin')
    .option('-b, --binary', 'frames instead of lines: u32 little-endian length, then that many bytes')
    .option('--codec <id>', 'codec to announce, such as json; the bytes are sent as they come')
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
  return withAccess(command)
    .addHelpText(
      'after',
      '\nExamples:\n  journalctl -f | ringbell pub logs\n  journalctl -f | ringbell pub logs --group adm --mode 660',
    )
    .action((topic: string, options: PubOptions, command: Command) =>
      runSession(command, (session) => publish(session, topic, options)),
    )
}

async function publish({ bus, out, signal }: Session, topic: string, options: PubOptions): Promise<void> {
  const { capacity, overflow, evictAfter, maxSubscribers, codec = 'bytes' } = options
  const input = addAbortSignal(signal, options.file === undefined ? process.stdin : createReadStream(options.file))
  const publisher = await bus.publisher(topic, {
    capacity,
    overflow,
    evictAfter,
    maxSubscribers,
    codec: rawCodec(codec),
    access: accessOf(options),
  })
  const sender = new Sender(publisher, overflow ?? 'block', options.rate, signal)
  let begin = performance.now()
  try {
    if (options.waitSubscriber === true) {
      out.note(`${topic}: waiting for a subscriber`)
      await withSubscriber(publisher, signal)
      begin = performance.now()
    }
    if (options.file === undefined && process.stdin.isTTY) out.note(`${topic}: every line is a message, Ctrl-D ends`)
    await sendAll(input, sender, publisher.maxMessage, options.binary === true)
    if (options.drain) await drained(publisher, out, signal)
  } finally {
    input.destroy()
    const { messages, bytes, dropped } = sender
    const seconds = (performance.now() - begin) / 1000
    if (out.json) await out.value({ topic, publisher: publisher.service.id, messages, bytes, dropped, seconds })
    else {
      const rate = messages > 1 ? `, ${perSecond(messages / seconds)}` : ''
      const drops = dropped > 0 ? `, ${counted(dropped, 'message')} dropped` : ''
      out.note(`${topic}: ${counted(messages, 'message')}, ${size(bytes)} in ${duration(seconds * 1e9)}${rate}${drops}`)
    }
    await publisher.close()
  }
}

async function sendAll(input: Readable, sender: Sender, limit: number, binary: boolean): Promise<void> {
  const splitter = binary ? new FrameSplitter(limit) : new LineSplitter(limit)
  for await (const chunk of input as AsyncIterable<Uint8Array>) await sender.send(splitter.push(chunk))
  const last = splitter.end()
  if (last !== undefined) await sender.send([last])
}

/** Waits until every attached subscriber has read everything; one that dies or is evicted is not waited for. */
async function drained(publisher: Publisher, out: Session['out'], signal: AbortSignal): Promise<void> {
  const behind = (): number => publisher.stats().subscribers.filter(isBehind).length
  if (behind() === 0) return
  out.note(`waiting for ${counted(behind(), 'subscriber')} to read the rest`)
  while (behind() > 0) await sleep(LOOK_MS, undefined, { signal })
}

function isBehind({ state, backlog }: { state: string; backlog: number }): boolean {
  return (state === 'active' || state === 'joining') && backlog > 0
}
