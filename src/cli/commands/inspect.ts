/**
 * `ringbell inspect <service>`: shows everything about the instances of one service: its record, what attaching for a moment
 * tells of a topic or state (attaching.ts), and the answers of servers and work queues.
 */
import { Command, Option } from 'commander'
import { type AccessInfo, type QueueReport, type Service, type SlotStats, type SourceStats } from '../../index.js'
import { attach, type Attachment } from '../attaching.js'
import { count, counted, duration, DURATIONS, parseDuration, size } from '../figures.js'
import type { Paint } from '../paint.js'
import { countersOfQueue, deadLetterLines } from '../queue-counters.js'
import { countersOfServer } from '../server-counters.js'
import { nobody, runSession, type Session } from '../session.js'
import { announcedState, linesOfState } from '../state-report.js'
import { columns } from '../table.js'
import { description } from './ls.js'

interface InspectOptions {
  timeout: number
  attach: boolean
}

export function inspect(): Command {
  return new Command('inspect')
    .summary('show everything about a service')
    .description(
      'Shows the record of every instance of a service and, for topics, counters, subscribers with their backlog, and the rung ' +
        'by which we acquire it and why not by a better one; for states the value, version and epoch. For that it attaches for a ' +
        'moment, and others see it as a subscriber or reader. ' +
        'It asks servers for their counters, and work queues for their counters and newest dead letters.',
    )
    .argument('<service>', 'service name')
    .addOption(
      new Option('-t, --timeout <duration>', `time limit for attaching and asking ${DURATIONS}`)
        .argParser(parseDuration)
        .default(2000, '2s'),
    )
    .option('--no-attach', 'show the record only')
    .action((name: string, options: InspectOptions, command: Command) =>
      runSession(command, 'fail', (session) => show(session, name, options)),
    )
}

async function show(session: Session, name: string, options: InspectOptions): Promise<void> {
  const { bus, out, signal } = session
  const instances = bus.services.list().filter((service) => service.name === name)
  if (instances.length === 0) throw nobody(bus, name)
  const attachments = await attach(session, name, options.attach ? instances : [], options.timeout)
  if (options.attach)
    for (const { service, error, ...counters } of await bus.counters(name, { timeout: options.timeout, signal }))
      attachments.set(service.id, {
        ...counters,
        ...(error && { error: { code: error.code, message: error.message } }),
      })
  if (out.json) {
    const all = instances.map((service) => ({
      ...description(service),
      record: service.record,
      ...attachments.get(service.id),
    }))
    await out.write(`${JSON.stringify(all, undefined, 2)}\n`)
    return
  }
  const texts = instances.map((service) => text(service, attachments.get(service.id), out.paint))
  await out.write(`${texts.join('\n\n')}\n`)
}

function text(service: Service, attachment: Attachment | undefined, paint: Paint): string {
  const { name, id, kind, pid, uid, protocol, offers, codec, schemaId, topic, access, endpoints, metadata } = service
  const lines: [string, string][] = [
    ['kind', kind],
    ['process', `pid ${pid}, uid ${uid}`],
    ['protocol', String(protocol)],
  ]
  if (offers.length > 0) lines.push(['offers', offers.join(', ')])
  if (codec !== undefined) lines.push(['codec', codec])
  if (schemaId !== undefined) lines.push(['schema id', schemaId])
  if (topic !== undefined) {
    const readers = announcedState(service) === undefined ? 'subscriber' : 'reader'
    const evict = topic.evictAfter === undefined ? '' : `, evicts after ${duration(topic.evictAfter * 1e6)}`
    lines.push([
      'ring',
      `${size(topic.capacity)}, ${topic.overflow}, up to ${counted(topic.maxSubscribers, readers)}${evict}`,
    ])
  }
  if (access !== undefined) lines.push(['access', accessOf(access, topic?.maxGuests ?? 0)])
  for (const [label, address] of Object.entries(endpoints)) lines.push([`endpoint ${label}`, address])
  if (Object.keys(metadata).length > 0) lines.push(['metadata', JSON.stringify(metadata)])
  if (attachment?.error !== undefined)
    lines.push([
      topic === undefined ? 'not asked' : 'not attached',
      `${attachment.error.message} (${attachment.error.code})`,
    ])
  if (attachment?.server !== undefined) lines.push(...countersOfServer(attachment.server))
  if (attachment?.queue !== undefined) lines.push(...countersOfQueue(attachment.queue))
  if (attachment?.state !== undefined) lines.push(...linesOfState(attachment.state))
  else if (attachment?.source !== undefined) lines.push(...live(attachment.source))
  const table = columns(lines.map(([label, value]) => [`  ${paint('dim', label)}`, value]))
  const heading = `${paint('bold', name)}@${id}`
  return [
    heading,
    ...table,
    ...(attachment?.state === undefined ? subscribers(attachment?.source, paint) : []),
    ...letters(attachment?.queue, paint),
  ].join('\n')
}

function accessOf({ mode, group, uids, gids }: AccessInfo, guests: number): string {
  const whom = [
    ...(group === undefined ? [] : [`group ${group}`]),
    ...(uids.length === 0 ? [] : [`uids ${uids.join(', ')}`]),
    ...(gids.length === 0 ? [] : [`gids ${gids.join(', ')}`]),
  ]
  return `${whom.join('; ')} (mode ${mode})${guests === 0 ? '' : `, up to ${counted(guests, 'guest')}`}`
}

/** The lines about the counters in shared memory. */
export function live({ rung, guest, fallbacks, publisher }: SourceStats): [string, string][] {
  const { messages, bytes, full, dropped, rings, evicted, reaped, highWater, fragments, head, floor } = publisher
  const lines: [string, string][] = [
    ['sent', `${counted(messages, 'message')}, ${size(bytes)}; the ring holds ${size(head - floor)}`],
    [
      'short of room',
      `${counted(full, 'time')}, ${counted(dropped, 'message')} dropped, largest backlog ${size(highWater)}`,
    ],
    ['wake-ups', `of sleeping subscribers: ${counted(rings, 'time')}`],
  ]
  if (fragments > 0) lines.push(['large messages', `sent in ${counted(fragments, 'piece')}`])
  if (evicted + reaped > 0)
    lines.push(['slots', `${count(evicted)} evicted, ${count(reaped)} of dead subscribers freed`])
  lines.push(['acquired by', guest ? `${rung}, as a guest` : rung])
  for (const step of fallbacks) lines.push([`not by ${step.rung}`, `${step.reason} (${step.code})`])
  return lines
}

/** The newest messages that a queue has given up. */
function letters(queue: QueueReport | undefined, paint: Paint): string[] {
  if (queue === undefined || queue.letters.length === 0) return []
  const header = ['  DEAD LETTER', 'TRIED', 'ERROR'].map((title) => paint('dim', title))
  return columns([header, ...deadLetterLines(queue).map(([job = '', ...rest]) => [`  ${job}`, ...rest])])
}

function subscribers(source: SourceStats | undefined, paint: Paint): string[] {
  if (source === undefined) return []
  if (source.guest) return [`  ${paint('dim', 'a guest sees no other subscribers')}`]
  const others: readonly SlotStats[] = source.subscribers.filter(({ slot }) => slot !== source.slot)
  if (others.length === 0) return [`  ${paint('dim', 'no subscribers')}`]
  const header = ['  SLOT', 'PID', 'STATE', 'BACKLOG', 'RECEIVED', 'MISSED', 'WAKE-UPS'].map((title) =>
    paint('dim', title),
  )
  const rows = others.map(({ slot, pid, state, backlog, received, missed, wakeups }) => [
    `  ${slot}`,
    String(pid),
    state,
    size(backlog),
    count(received),
    count(missed),
    count(wakeups),
  ])
  return columns([header, ...rows], [1, 3, 4, 5, 6])
}
