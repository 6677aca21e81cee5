/**
 * `ringbell run --name price -- node worker.js`, or `ringbell run FILE`: keeps instances of services up, in the foreground, and
 * ends them when it is ended. It is what a container or a unit of systemd starts.
 */
import { once } from 'node:events'
import { debuglog } from 'node:util'
import { Command, Option } from 'commander'
import { type Bus, type RingbellError } from '../../index.js'
import {
  type GroupInstance,
  notify,
  type OutputListener,
  ServiceGroup,
  type ServiceGroupOptions,
  watchdogInterval,
} from '../../supervise/index.js'
import { CommandError, EXIT } from '../exit-codes.js'
import { counted, duration, DURATIONS, parseAmount, parseCount, parseDuration } from '../figures.js'
import { withExamples } from '../manual.js'
import type { Output } from '../output.js'
import type { FileService } from '../services-file.js'
import { placeOf, runSession, type Session } from '../session.js'

const debug = debuglog('ringbell')

interface CommandOptions {
  name?: string
  replicas?: number
  grace?: number
  readyTimeout?: number
  minUptime?: number
  maxRestarts?: number
  heartbeat?: number
  ready?: 'announced' | 'started'
  tied?: 'none' | 'process' | 'tree'
  log?: string
  adopt: boolean
  respawn: boolean
}

export function run(): Command {
  const command = new Command('run')
    .summary('keep instances of a service up')
    .description(
      'Starts instances of a command and keeps them up, in the foreground: one that ends is started again, at once or, if it ends early, after ' +
        'longer and longer pauses. Instances that call bus.join elect a primary by themselves. With a FILE instead of a name and a command: ' +
        'several services, with what they depend on. Other terminals: ringbell ps, logs, restart, stop, top. When it ends, all instances end, ' +
        'with one grace for all. With NOTIFY_SOCKET it tells systemd that it is ready, stopping and alive.',
    )
    .argument('[command...]', "a file of services; or with --name the command and its arguments after '--'")
    .option('--name <service>', 'the name of the service')
    .option('-r, --replicas <n>', 'how many instances (default: 2)', parseCount)
    .option('-g, --grace <duration>', `time that instances have to end (default: 3s) ${DURATIONS}`, parseDuration)
    .option('--ready-timeout <duration>', 'time until an instance must be ready (default: 10s)', parseDuration)
    .option(
      '--min-uptime <duration>',
      'one that lives for so long is started again at once (default: 1s)',
      parseDuration,
    )
    .option('--max-restarts <n>', 'so many short lives in a row are no failure yet (default: 10)', parseAmount)
    .option(
      '--heartbeat <duration>',
      'kill an instance that does not answer for this long (default: they are not asked)',
      parseDuration,
    )
    .addOption(
      new Option(
        '--ready <when>',
        "when an instance is ready: when it has 'announced' the service, or when it has 'started'",
      ).choices(['announced', 'started']),
    )
    .addOption(
      new Option(
        '--tied <what>',
        'what ends even if this process is killed: nothing, each process, or with all that it has started',
      ).choices(['none', 'process', 'tree']),
    )
    .option('--log <file>', 'append the output of the instances to a file, in place of printing it')
    .option('--no-adopt', 'do not take over instances whose manager was killed')
    .option('--no-respawn', 'do not start instances again')
  return withExamples(command, [
    'ringbell run --replicas 3 --name price -- node worker.js',
    'ringbell run services.yaml',
  ]).action((words: string[], options: CommandOptions, self: Command) =>
    runSession(self, 'make', async (session) => keepUp(session, await servicesOf(session.bus, words, options, self))),
  )
}

async function servicesOf(
  bus: Bus,
  words: readonly string[],
  options: CommandOptions,
  self: Command,
): Promise<FileService[]> {
  const { name, heartbeat, respawn, ready, adopt, log, ...same } = options
  const [command, ...args] = words
  if (name === undefined) {
    if (command === undefined || args.length > 0)
      throw wrong("Give one file of services, or --name and a command after '--'")
    const refused = self.options.filter((one) => self.getOptionValueSource(one.attributeName()) === 'cli')
    const flags = refused.flatMap(({ long }) =>
      long === null || long === undefined || long === '--no-adopt' ? [] : long,
    )
    if (flags.length > 0)
      throw wrong(`${flags.join(' and ')} cannot be given with a file: write it there, for each service`)
    // Its parser takes a while to load, and no other command needs it.
    const { readServices } = await import('../services-file.js')
    return readServices(command, (one) => void new ServiceGroup(bus, one)).map((one) => ({
      ...one,
      options: { adopt, ...one.options },
    }))
  }
  if (command === undefined) throw wrong("Give a command after '--'")
  if (args.length === 0 && /\.(ya?ml|json)$/.test(command))
    throw wrong(`'${command}' looks like a file of services, which has the names itself: give it without --name`)
  const beats =
    heartbeat === undefined ? {} : { heartbeat: { timeout: heartbeat, interval: Math.max(10, heartbeat / 3) } }
  const readiness = ready === undefined ? {} : { readiness: ready }
  const stdio = log === undefined ? {} : { stdio: { file: log } }
  return [
    {
      options: { ...same, ...beats, ...readiness, ...stdio, adopt, autoRespawn: respawn, service: name, command, args },
      dependsOn: [],
    },
  ]
}

function wrong(message: string): CommandError {
  return new CommandError('ERR_RINGBELL_INVALID_OPTION', message)
}

/** A service with its group. */
interface Kept {
  readonly group: ServiceGroup
  readonly dependsOn: readonly string[]
}

async function keepUp({ bus, out, signal }: Session, services: readonly FileService[]): Promise<number | void> {
  const over = new AbortController()
  const kept = services.map(({ options, dependsOn }): Kept => ({ group: groupOf(bus, options, out), dependsOn }))
  const failures = watchEnds(kept, over)
  const ended = once(AbortSignal.any([signal, over.signal]), 'abort')
  const watchdog = watchdogInterval()
  const barking = watchdog === undefined ? undefined : setInterval(() => notify('WATCHDOG=1'), watchdog)
  try {
    const began = performance.now()
    const tellReady = async (): Promise<void> => {
      await startAll(kept)
      notify(`READY=1\nSTATUS=${counted(kept.length, 'service')} ready`)
      out.note(`ready after ${duration((performance.now() - began) * 1e6)}, on ${placeOf(bus)}; Ctrl-C ends`)
    }
    // A place that has failed was told. The others go on, until none is left.
    tellReady().catch((error: unknown) => debug('starting: %s', error))
    if (!signal.aborted) await ended
  } finally {
    notify('STOPPING=1')
    clearInterval(barking)
    // At the same time: a terminal's Ctrl-C reaches all of them, too.
    await Promise.all(kept.map(({ group }) => group.stop()))
  }
  return failures.size > 0 ? EXIT.failure : undefined
}

/** Prints each line with the instance that wrote it. */
function printed(out: Output): OutputListener {
  return (line, stream, { service, instance, pid }) => {
    if (out.json) void out.value({ event: 'output', service, instance, pid, stream, line })
    else void out.line(`${out.paint(stream === 'stderr' ? 'yellow' : 'cyan', `${service}/${instance}`)}  ${line}`)
  }
}

function groupOf(bus: Bus, options: ServiceGroupOptions, out: Output): ServiceGroup {
  // They are not what the service manager of this process waits for.
  const env = { ...options.env, NOTIFY_SOCKET: undefined, WATCHDOG_USEC: undefined, WATCHDOG_PID: undefined }
  const group = new ServiceGroup(bus, {
    ...options,
    env,
    ...(options.stdio === undefined ? { output: printed(out) } : {}),
  })
  const tell = (event: string, one: GroupInstance, text: string, more: object = {}): void => {
    const { service, instance, pid, state, role, epoch, restarts } = one
    out.report(`${service}/${instance}${pid === undefined ? '' : ` (pid ${pid})`} ${text}`, {
      event,
      service,
      instance,
      pid,
      state,
      role,
      epoch,
      restarts,
      ...more,
    })
  }
  group.on('ready', (one) => tell('ready', one, 'is ready'))
  group.on('primary', (one) => tell('primary', one, `is primary, epoch ${one.epoch}`))
  group.on('exit', (one, { exitCode, signal }) => {
    tell(
      'exit',
      one,
      signal === null ? `has ended with exit code ${exitCode ?? 'unknown'}` : `was ended by ${signal}`,
      { exitCode, signal },
    )
  })
  group.on('respawn', (one, delay) => {
    tell('respawn', one, delay === 0 ? 'is started again' : `is started again in ${duration(delay * 1e6)}`, { delay })
  })
  group.on('stalled', (one, { code, message }) => tell('stalled', one, `is stalled: ${message}`, { code, message }))
  group.on('failed', ({ code, message }: RingbellError, one) =>
    tell('failed', one, `has failed: ${message} (${code})`, { code, message }),
  )
  return group
}

/** Ends the run when every group was stopped, or a group has no place left that goes on. Returns the groups that have failed. */
function watchEnds(kept: readonly Kept[], over: AbortController): Set<ServiceGroup> {
  const failed = new Set<ServiceGroup>()
  const stopped = new Set<ServiceGroup>()
  for (const { group } of kept) {
    const look = (): void => {
      const states = group.instances.filter(({ manager }) => manager === group.id).map(({ state }) => state)
      if (!states.every((state) => state === 'failed' || state === 'stopped')) return
      if (states.includes('failed')) failed.add(group)
      if (failed.has(group) || states.length > 0) over.abort()
    }
    group.on('failed', look)
    group.on('exit', look)
    group.on('stopped', () => {
      stopped.add(group)
      if (stopped.size === kept.length) over.abort()
    })
  }
  return failed
}

/** Each service as soon as those that it depends on are ready. */
async function startAll(kept: readonly Kept[]): Promise<void> {
  const started = new Map<string, Promise<void>>()
  const start = (one: Kept): Promise<void> => {
    const { service } = one.group
    const known = started.get(service)
    if (known !== undefined) return known
    const needed = kept.filter(({ group }) => one.dependsOn.includes(group.service))
    const starting = Promise.all(needed.map(start)).then(() => one.group.start())
    started.set(service, starting)
    return starting
  }
  await Promise.all(kept.map(start))
}
