/**
 * `ringbell stats <service>`: shows the counters of every instance of a service. Those of a topic or state are in shared memory,
 * and only a subscriber or reader can read them. So this command is one for that time, and its help says so.
 */
import { Command, Option } from 'commander'
import type { QueueReport, ServerStats, Service, SourceStats } from '../../index.js'
import { attach } from '../attaching.js'
import { DURATIONS, parseDuration } from '../figures.js'
import type { Paint } from '../paint.js'
import { countersOfQueue } from '../queue-counters.js'
import { countersOfServer } from '../server-counters.js'
import { nobody, runSession, type Session } from '../session.js'
import { linesOfState, type StateReport } from '../state-report.js'
import { columns } from '../table.js'
import { live } from './inspect.js'

interface CommandOptions {
  timeout: number
}

interface Found {
  service: Service
  topic?: SourceStats
  state?: StateReport
  server?: ServerStats
  queue?: QueueReport
  error?: { code: string | undefined; message: string }
}

export function stats(): Command {
  return new Command('stats')
    .summary('show the counters of a service')
    .description(
      'Shows the counters of every instance of a service. It asks servers and work queues, and attaches to topics and states for a moment. Others see it ' +
        'there as a subscriber or reader: it takes a slot, and `pub --wait-subscriber` begins. `inspect --no-attach` shows only the record.',
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
  if (instances.length === 0) throw nobody(bus, name)
  const [attachments, asked] = await Promise.all([
    attach(session, name, instances, timeout),
    bus.counters(name, { timeout, signal: session.signal }),
  ])
  const answers = new Map(asked.map((one) => [one.service.id, one]))
  const all = instances.map((service): Found => {
    const { source, state, error } = attachments.get(service.id) ?? {}
    if (state !== undefined) return { service, state }
    if (source !== undefined) return { service, topic: source }
    return answers.get(service.id) ?? { service, error: error ?? untold(service.kind) }
  })
  if (out.json) {
    const values = all.map(({ service: { id, kind, pid }, error, ...counters }) => ({
      service: name,
      id,
      kind,
      pid,
      ...counters,
      error: error && { code: error.code, message: error.message },
    }))
    await out.write(`${JSON.stringify(values, undefined, 2)}\n`)
  } else await out.write(`${all.map((found) => text(found, out.paint)).join('\n\n')}\n`)
}

function untold(kind: string): NonNullable<Found['error']> {
  return { code: 'ERR_RINGBELL_NOT_FOUND', message: `a ${kind} has no counters` }
}

function text({ service, topic, state, server, queue, error }: Found, paint: Paint): string {
  const { name, id, kind, pid } = service
  const lines: [string, string][] = [['process', `pid ${pid}, ${kind}`]]
  if (topic !== undefined) lines.push(...live(topic))
  if (state !== undefined) lines.push(...linesOfState(state))
  if (server !== undefined) lines.push(...countersOfServer(server))
  if (queue !== undefined) lines.push(...countersOfQueue(queue))
  if (error !== undefined) lines.push(['unknown', `${error.message} (${error.code})`])
  return [
    `${paint('bold', name)}@${id}`,
    ...columns(lines.map(([label, value]) => [`  ${paint('dim', label)}`, value])),
  ].join('\n')
}
