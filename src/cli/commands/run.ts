/**
 * `ringbell run --name price -- node worker.js`, or `ringbell run FILE`: keeps instances of services up, in the foreground, and
 * ends them when it is ended. It is what a container or a unit of systemd starts.
 */
import { once } from 'node:events'
import { debuglog } from 'node:util'
import { Command, Option } from 'commander'
import { type Bus, RingbellError } from '../../index.js'
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

async function keepUp(session: Session, services: readonly FileService[]): Promise<number | void> {
  const { bus, out, signal } = session
  const over = new AbortController()
  const kept = services.map(({ options, dependsOn }): Kept => ({ group: groupOf(bus, options, out), dependsOn }))
  const ends = new Ends(kept, () => over.abort())
  const ended = once(AbortSignal.any([signal, over.signal]), 'abort')
  const tell = teller(out)
  const watchdog = watchdogInterval()
  const barking = watchdog === undefined ? undefined : setInterval(() => tell('WATCHDOG=1'), watchdog)
  const began = performance.now()
  let failure: unknown
  const begin = async (): Promise<void> => {
    if (!(await startAll(session, kept, ends))) return
    tell(`READY=1\nSTATUS=${counted(kept.length, 'service')} ready`)
    out.note(`ready after ${duration((performance.now() - began) * 1e6)}, on ${placeOf(bus)}; Ctrl-C ends`)
  }
  begin().catch((error: unknown) => {
    failure = error
    over.abort()
  })
  if (!signal.aborted) await ended
  ends.all = true
  tell('STOPPING=1')
  clearInterval(barking)
  await stopAll(kept)
  if (failure !== undefined) throw failure
  return ends.failed ? EXIT.failure : undefined
}

/** Tells the service manager. That it cannot be told ends nothing, and is said once. */
function teller(out: Output): (state: string) => void {
  let told = false
  return (state) => {
    try {
      notify(state)
    } catch (error) {
      const { code, message } = error as RingbellError
      if (!told) out.report(`cannot tell the service manager: ${message} (${code})`, { event: 'notify', code, message })
      told = true
    }
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** Milliseconds in which a second signal is the same one: npm passes on what the terminal has sent to all already. */
const SAME_SIGNAL = 500

/** At the same time, with one grace for each group. A further signal kills what has not ended. */
async function stopAll(kept: readonly Kept[]): Promise<void> {
  const began = performance.now()
  const groups = kept.map(({ group }) => group)
  const hurry = (): void => {
    if (performance.now() - began < SAME_SIGNAL) return
    for (const group of groups) group.stop({ grace: 0 }).catch((error: unknown) => debug('stopping: %s', error))
  }
  for (const name of SIGNALS) process.on(name, hurry)
  const stops = await Promise.allSettled(groups.map((group) => group.stop()))
  for (const name of SIGNALS) process.off(name, hurry)
  const failed = stops.find((stop) => stop.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Prints each line with the instance that wrote it. */
function printed(out: Output): OutputListener {
  return (line, stream, { service, instance, pid }) =>
    out.pass(
      out.json
        ? JSON.stringify({ event: 'output', service, instance, pid, stream, line })
        : `${out.paint(stream === 'stderr' ? 'yellow' : 'cyan', `${service}/${instance}`)}  ${line}`,
    )
}

function groupOf(bus: Bus, options: ServiceGroupOptions, out: Output): ServiceGroup {
  // They are not what the service manager of this process waits for.
  const env = { ...options.env, NOTIFY_SOCKET: undefined, WATCHDOG_USEC: undefined, WATCHDOG_PID: undefined }
  const group = new ServiceGroup(bus, {
    ...options,
    env,
    // Ctrl-C in a terminal goes to a whole process group. Only this process hears it, and then ends them in order.
    detached: true,
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
  group.on('exit', (one, { exitCode, signal }, reason) => {
    const how = signal === null ? `has ended with exit code ${exitCode ?? 'unknown'}` : `was ended by ${signal}`
    const why = reason === undefined ? {} : { code: reason.code, message: reason.message }
    tell('exit', one, reason === undefined ? how : `${how}: ${reason.message}`, { exitCode, signal, ...why })
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

/** Ends the run when no group goes on, or one has failed in all of its places. */
class Ends {
  /** A group has no place left that goes on, and at least one has failed. */
  failed = false
  /** All are being ended, so none is started any more. */
  all = false
  readonly #told = new WeakSet<object>()
  readonly #going: Set<ServiceGroup>
  readonly #over: () => void

  constructor(kept: readonly Kept[], over: () => void) {
    this.#going = new Set(kept.map(({ group }) => group))
    this.#over = over
    for (const { group } of kept) {
      group.on('failed', (error) => {
        this.#told.add(error)
        this.#look(group)
      })
      group.on('exit', () => this.#look(group))
      group.on('stopped', () => this.leave(group))
    }
  }

  /** Whether it was told already that a group cannot start for this reason. */
  knows(error: unknown): boolean {
    return error instanceof RingbellError && (this.#told.has(error) || error.code === 'ERR_RINGBELL_CLOSED')
  }

  /** It was stopped, or is never started. */
  leave(group: ServiceGroup): void {
    this.#going.delete(group)
    if (this.#going.size === 0) this.#over()
  }

  #look(group: ServiceGroup): void {
    const states = group.instances.filter(({ manager }) => manager === group.id).map(({ state }) => state)
    if (!states.every((state) => state === 'failed' || state === 'stopped')) return
    this.failed ||= states.includes('failed')
    this.#over()
  }
}

/**
 * Each service as soon as those that it depends on are ready. Resolves with whether all are. A service whose places have failed was told,
 * and the others go on. Rejects with any other error.
 */
async function startAll({ out, signal }: Session, kept: readonly Kept[], ends: Ends): Promise<boolean> {
  const started = new Map<string, Promise<boolean>>()
  const start = async ({ group, dependsOn }: Kept): Promise<boolean> => {
    const needed = kept.filter((one) => dependsOn.includes(one.group.service))
    const ready = await Promise.all(needed.map(startOnce))
    const missing = needed.map((one) => one.group.service).filter((_, at) => ready[at] !== true)
    const { service } = group
    if (missing.length > 0) {
      if (!signal.aborted)
        out.report(`${service} is not started: it needs ${missing.join(', ')}`, { event: 'skipped', service, missing })
      ends.leave(group)
      return false
    }
    if (ends.all) return false
    try {
      await group.start()
      return true
    } catch (error) {
      if (!ends.knows(error)) throw error
      debug('starting %s: %s', service, error)
      return false
    }
  }
  const startOnce = (one: Kept): Promise<boolean> => {
    const { service } = one.group
    const starting = started.get(service) ?? start(one)
    started.set(service, starting)
    return starting
  }
  return (await Promise.all(kept.map(startOnce))).every(Boolean)
}
