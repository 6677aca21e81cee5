/** `ringbell top [service]`: the instances of service groups, again and again, with what they use. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { type GroupInstance, instancesOn } from '../../supervise/index.js'
import { DURATIONS, parseCount, parseDuration, size } from '../figures.js'
import { age, stateText } from '../group-text.js'
import { LiveBlock } from '../live-block.js'
import type { Paint } from '../paint.js'
import { type Usage, usageOf } from '../process-usage.js'
import { runSession, type Session } from '../session.js'
import { columns } from '../table.js'
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
}

export function top(): Command {
  return new Command('top')
    .summary('show the instances of service groups, and what they use')
    .description(
      'Shows the instances of all service groups on the bus, or of one, once in each interval: role, epoch, pid, uptime, processor time, memory, ' +
        'restarts. On a terminal it draws in place. With --json, one object per line.',
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

async function watch(
  { bus, out, signal }: Session,
  service: string | undefined,
  options: CommandOptions,
): Promise<void> {
  const block = out.live ? new LiveBlock(process.stdout) : undefined
  let before = new Map<number, Usage>()
  let last = performance.now()
  for (let left = options.count ?? Infinity; left > 0; left--) {
    const now = performance.now()
    const instances = await instancesOn(bus, { service })
    const usages = new Map(instances.flatMap(({ pid }) => usage(pid)))
    const rows = instances.map((instance) => row(instance, usages, before, (now - last) / 1000))
    before = usages
    last = now
    if (out.json)
      for (const one of rows)
        await out.value({ ...fields(one.instance), cpu: one.cpu ?? null, memory: one.memory ?? null })
    else if (block !== undefined) block.draw(table(rows, out.paint))
    else await out.line(table(rows, out.paint).join('\n'))
    if (left > 1) await sleep(options.interval, undefined, { signal })
  }
}

function usage(pid: number | undefined): [pid: number, usage: Usage][] {
  const found = pid === undefined ? undefined : usageOf(pid)
  return pid === undefined || found === undefined ? [] : [[pid, found]]
}

function row(instance: GroupInstance, now: Map<number, Usage>, before: Map<number, Usage>, seconds: number): Row {
  const { pid = 0 } = instance
  const [used, earlier] = [now.get(pid), before.get(pid)]
  const cpu =
    used && earlier && seconds > 0 ? Math.round((1000 * (used.seconds - earlier.seconds)) / seconds) / 10 : undefined
  return { instance, cpu, memory: used?.memory }
}

function table(rows: readonly Row[], paint: Paint): string[] {
  const head = ['SERVICE', 'INSTANCE', 'STATE', 'EPOCH', 'PID', 'UPTIME', 'CPU', 'MEMORY', 'RESTARTS'].map((one) =>
    paint('dim', one),
  )
  const lines = rows.map(({ instance: one, cpu, memory }) => [
    one.service,
    one.instance,
    stateText(one.state, paint),
    one.epoch === undefined || one.epoch === 0 ? '-' : String(one.epoch),
    one.pid === undefined ? '-' : String(one.pid),
    one.pid === undefined ? '-' : age(one.uptime),
    cpu === undefined ? '-' : `${cpu.toFixed(1)}%`,
    memory === undefined ? '-' : size(memory),
    String(one.restarts),
  ])
  return columns([head, ...lines], [3, 4, 5, 6, 7, 8])
}
