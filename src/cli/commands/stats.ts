/**
 * `ringbell stats <service>`: shows the counters of every instance of a service. Those of a topic are in shared memory,
 * and only a subscriber can read them. So this command is a subscriber for that time, and its help says so.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { RingbellError, type RingbellErrorCode, type ServerStats, type Service, type SourceStats } from '../../index.js'
import { count, counted, DURATIONS, parseDuration } from '../figures.js'
import type { Paint } from '../paint.js'
import { shellCodec } from '../payloads.js'
import { placeOf, runSession, type Session } from '../session.js'
import { columns } from '../table.js'
import { attachAll, type Attachment, live } from './inspect.js'

interface CommandOptions {
  timeout: number
}

interface Found {
  service: Service
  topic?: SourceStats
  server?: ServerStats
  error?: { code: RingbellErrorCode; message: string }
}

export function stats(): Command {
  return new Command('stats')
    .summary('show the counters of a service')
    .description(
      'Shows the counters of every instance of a service. It asks servers, and attaches to topics for a moment. Others see it ' +
        'there as a subscriber: it takes a slot, and `pub --wait-subscriber` begins. `inspect --no-attach` shows only the record.',
    )
    .argument('<service>', 'service name')
    .addOption(
      new Option('-t, --timeout <duration>', `time limit for reaching them ${DURATIONS}`)
        .argParser(parseDuration)
        .default(2000, '2s'),
    )
    .action((name: string, options: CommandOptions, command: Command) =>
      runSession(command, 'fail', (session) => show(session, name, options)),
    )
}

async function show(session: Session, name: string, { timeout }: CommandOptions): Promise<void> {
  const { bus, out } = session
  const instances = bus.services.list().filter((service) => service.name === name)
  if (instances.length === 0)
    throw new RingbellError('ERR_RINGBELL_NOT_FOUND', `No process announces '${name}' on ${placeOf(bus)}`)
  const topics = instances.filter(({ topic }) => topic !== undefined)
  const servers = instances.filter(({ kind }) => kind === 'server')
  const [ofTopics, ofServers] = await Promise.all([
    countersOfTopics(session, name, topics, timeout),
    countersOfServers(session, name, servers, timeout),
  ])
  const all = instances.map((service): Found => {
    const { source, error } = ofTopics.get(service.id) ?? {}
    const server = ofServers.get(service.id)
    if (source !== undefined) return { service, topic: source }
    if (server !== undefined) return { service, server }
    const late = { code: 'ERR_RINGBELL_TIMEOUT', message: `not reached within ${timeout} ms` } as const
    return { service, error: error ?? (service.kind === 'server' ? late : untold(service.kind)) }
  })
  if (out.json) {
    const values = all.map(({ service: { id, kind, pid }, ...counters }) => ({
      service: name,
      id,
      kind,
      pid,
      ...counters,
    }))
    await out.write(`${JSON.stringify(values, undefined, 2)}\n`)
  } else await out.write(`${all.map((found) => text(found, out.paint)).join('\n\n')}\n`)
}

function untold(kind: string): NonNullable<Found['error']> {
  const why =
    kind === 'queue'
      ? 'the counters of a queue are in its own process: use queue.stats() there, or what `push` prints at its end'
      : `a ${kind} has no counters`
  return { code: 'ERR_RINGBELL_NOT_FOUND', message: why }
}

async function countersOfTopics(
  { bus, signal }: Session,
  name: string,
  topics: readonly Service[],
  timeout: number,
): Promise<Map<string, Attachment>> {
  const attachments = new Map<string, Attachment>()
  if (topics.length === 0) return attachments
  const subscriber = await bus.subscriber(name)
  try {
    await attachAll(subscriber, topics, timeout, attachments, signal)
  } finally {
    await subscriber.close()
  }
  return attachments
}

async function countersOfServers(
  { bus, signal }: Session,
  name: string,
  servers: readonly Service[],
  timeout: number,
): Promise<Map<string, ServerStats>> {
  const counters = new Map<string, ServerStats>()
  const ask = async (codec: string, wanted: number): Promise<void> => {
    const client = await bus.connect(name, { codec: shellCodec(codec), route: 'round-robin' })
    const over = new AbortController()
    client.on('connected', (connection) => void note(client, connection))
    const note = async (of: typeof client, connection: (typeof client.connections)[number]): Promise<void> => {
      try {
        counters.set(connection.service?.id ?? '', await of.serverStats({ connection, timeout }))
      } catch {
        // The server has gone meanwhile, and is shown as not reached.
        return
      }
      if (--wanted === 0) over.abort()
    }
    await sleep(timeout, undefined, { signal: AbortSignal.any([signal, over.signal]) }).catch(() => {})
    await client.close()
  }
  const codecs = new Map<string, number>()
  for (const { codec = 'bytes' } of servers) codecs.set(codec, (codecs.get(codec) ?? 0) + 1)
  await Promise.all([...codecs].map(([codec, wanted]) => ask(codec, wanted)))
  signal.throwIfAborted()
  return counters
}

function text({ service, topic, server, error }: Found, paint: Paint): string {
  const { name, id, kind, pid } = service
  const lines: [string, string][] = [['process', `pid ${pid}, ${kind}`]]
  if (topic !== undefined) lines.push(...live(topic))
  if (server !== undefined) lines.push(...countersOf(server))
  if (error !== undefined) lines.push(['unknown', `${error.message} (${error.code})`])
  return [
    `${paint('bold', name)}@${id}`,
    ...columns(lines.map(([label, value]) => [`  ${paint('dim', label)}`, value])),
  ].join('\n')
}

function countersOf({
  connections,
  accepted,
  requests,
  replies,
  errors,
  cancelled,
  inHand,
}: ServerStats): [string, string][] {
  return [
    ['connections', `${count(connections)} now, ${count(accepted)} in total`],
    ['requests', `${counted(requests, 'request')}, ${count(inHand)} in hand`],
    [
      'answered',
      `${counted(replies, 'reply', 'replies')}, ${counted(errors, 'error')}, ${count(cancelled)} given up by the caller`,
    ],
  ]
}
