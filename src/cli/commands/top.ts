/** `ringbell top [service]`: the instances of service groups, again and again, with what they use. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { type GroupInstance, instancesOn } from '../../supervise/index.js'
import { DURATIONS, parseCount, parseDuration, size } from '../figures.js'
import { age, stateText } from '../group-text.js'
import { LiveBlock } from '../live-block.js'
import type { Paint } from '../paint.js'
import { keyOf, type Usage, usageOf } from '../process-usage.js'
import { runSession, type Session } from '../session.js'
import { columns } from '../table.js'
import { type Behind, type Traffic, trafficOf } from '../traffic.js'
import { fields } from './ps.js'

interface CommandOptions {
  interval: number
  count?: number
}

/** An instance with what it uses. */
interface Row {
  readonly instance: GroupInstance
  /** Percent of one processor since the round before; `undefined` in the first one. */
  readonly cpu: number | undefined
  readonly memory: number | undefined
  /** Messages and calls in a second since the round before; `undefined` in the first one. */
  readonly rate: number | undefined
  readonly subscribers: readonly Behind[]
}

/** What was read in one round. */
interface Reading {
  readonly at: number
  readonly usages: ReadonlyMap<string, Usage>
  readonly traffic: ReadonlyMap<string, Traffic>
}

export function top(): Command {
  return new Command('top')
    .summary('show the instances of service groups, and what they use')
    .description(
      'Shows the instances of all service groups on the bus, or of one, once in each interval: role, epoch, pid, uptime, processor time, memory, ' +
        'restarts, messages and calls in a second, and how many bytes the slowest subscriber is behind. It attaches to their topics for a moment. On a terminal it draws in place. With --json, one object per line.',
    )
    .argument('[service]', 'only this service')
    .addOption(
      new Option('-i, --interval <duration>', `time between two rounds ${DURATIONS}`)
        .argParser(parseDuration)
        .default(1000, '1s'),
    )
    .option('-n, --count <n>', 'end after this many rounds', parseCount)
    .action((service: string | undefined, options: CommandOptions, command: Command) =>
      runSession(command, 'fail', (session) => watch(session, service, options)),
    )
}

/** Milliseconds that a service has to tell its counters. */
const PATIENCE = 500

async function watch(session: Session, service: string | undefined, options: CommandOptions): Promise<void> {
  const { bus, out, signal } = session
  const block = out.live ? new LiveBlock(process.stdout) : undefined
  let before: Reading | undefined
  for (let left = options.count ?? Infinity; left > 0; left--) {
    const instances = await instancesOn(bus, { service, signal })
    const running = instances.filter(({ pid }) => pid !== undefined)
    const traffic = await trafficOf(session, new Set(running.map(keyOf)), PATIENCE)
    const usages = new Map(running.flatMap(usage))
    const now = { at: performance.now(), usages, traffic }
    const rows = instances.map((instance) => row(instance, now, before))
    before = now
    if (out.json) for (const one of rows) await out.value(json(one))
    else if (block !== undefined) block.draw(table(rows, out.paint))
    else await out.line(table(rows, out.paint).join('\n'))
    if (left > 1) await sleep(options.interval, undefined, { signal })
  }
}

function json({ instance, cpu, memory, rate, subscribers }: Row): object {
  return { ...fields(instance), cpu: cpu ?? null, memory: memory ?? null, rate: rate ?? null, subscribers }
}

function usage(instance: GroupInstance): [key: string, usage: Usage][] {
  const found = usageOf(instance)
  return found === undefined ? [] : [[keyOf(instance), found]]
}

function row(instance: GroupInstance, now: Reading, before: Reading | undefined): Row {
  const key = keyOf(instance)
  const seconds = before === undefined ? 0 : (now.at - before.at) / 1000
  const grown = (last: number | undefined, first: number | undefined): number | undefined =>
    last === undefined || first === undefined || seconds <= 0 ? undefined : Math.max(0, last - first) / seconds
  const [used, carried] = [now.usages.get(key), now.traffic.get(key)]
  const share = grown(used?.seconds, before?.usages.get(key)?.seconds)
  const rate = grown(carried?.messages, before?.traffic.get(key)?.messages)
  return {
    instance,
    cpu: share === undefined ? undefined : Math.round(1000 * share) / 10,
    memory: used?.memory,
    rate: rate === undefined ? undefined : Math.round(rate),
    subscribers: carried?.subscribers ?? [],
  }
}

function table(rows: readonly Row[], paint: Paint): string[] {
  const head = [
    'SERVICE',
    'INSTANCE',
    'STATE',
    'EPOCH',
    'PID',
    'UPTIME',
    'CPU',
    'MEMORY',
    'RESTARTS',
    'MESSAGES/S',
    'BACKLOG',
  ].map((one) => paint('dim', one))
  const lines = rows.map(({ instance: one, cpu, memory, rate, subscribers }) => [
    one.service,
    one.instance,
    stateText(one.state, paint),
    one.epoch === undefined || one.epoch === 0 ? '-' : String(one.epoch),
    one.pid === undefined ? '-' : String(one.pid),
    one.pid === undefined ? '-' : age(one.uptime),
    cpu === undefined ? '-' : `${cpu.toFixed(1)}%`,
    memory === undefined ? '-' : size(memory),
    String(one.restarts),
    rate === undefined ? '-' : String(rate),
    subscribers.length === 0 ? '-' : size(Math.max(...subscribers.map(({ backlog }) => backlog))),
  ])
  return columns([head, ...lines], [3, 4, 5, 6, 7, 8, 9, 10])
}
