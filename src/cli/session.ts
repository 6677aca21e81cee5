/**
 * One run of a command: opens the bus that the global options name, passes it to the command, and always closes it.
 * Only this file turns errors into texts and exit codes. Commands use the public API of the package and nothing else.
 */
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { Bus, type BusOptions, RingbellError } from '../index.js'
import { CommandError, EXIT, type ExitCode, exitCodeOf } from './exit-codes.js'
import { interruption } from './interruption.js'
import { Output } from './output.js'
import { complain } from './paint.js'

/** Options that every command has. */
export interface GlobalOptions {
  bus?: string
  domain?: string
  system?: boolean
  json?: boolean
}

/**
 * What a command does if its bus has no directory. `make`: it announces something, and makes the directory. `fail`: it
 * only looks, and fails. `wait`: it waits for other processes, and so for the directory as well. Only commands that
 * announce something make it, because otherwise a mistyped path would become an empty bus.
 */
export type Missing = 'make' | 'fail' | 'wait'

export interface Session {
  readonly bus: Bus
  readonly out: Output
  /** Aborted when the command is to end early. */
  readonly signal: AbortSignal
  /** When the command began, by `performance.now()`. */
  readonly began: number
}

/** Returns the exit code: one of ours, or that of a command that was run. */
export type Body = (session: Session) => Promise<number | void>

/** Milliseconds between two checks for a missing directory. There is no event for that. */
const LOOK_MS = 20

/** Runs a command's body and sets the process's exit code; never throws. `patience`: milliseconds to wait for the directory. */
export async function runSession(command: Command, missing: Missing, body: Body, patience = Infinity): Promise<void> {
  const { json = false } = command.optsWithGlobals<GlobalOptions>()
  const began = performance.now()
  await run(json, async (out, signal) => {
    const bus = await openBus(busOptions(command), missing, patience, out, signal)
    try {
      return await body({ bus, out, signal, began })
    } finally {
      await bus.close()
    }
  })
}

/** The bus that the global options name. */
export function busOptions(command: Command): BusOptions {
  const { bus: path, domain, system } = command.optsWithGlobals<GlobalOptions>()
  return { path, domain, system }
}

/** As `runSession`, for a command that needs no bus. */
export async function run(
  json: boolean,
  body: (out: Output, signal: AbortSignal) => Promise<number | void>,
): Promise<void> {
  const outside = interruption()
  outside.listen()
  let code: number
  try {
    code = (await body(new Output(json, outside.signal), outside.signal)) ?? EXIT.ok
  } catch (error) {
    code = outside.code ?? fail(error)
  }
  outside.dispose()
  process.exitCode = outside.code ?? code
  // After an interruption nothing may keep the process alive, not even output that is not read.
  if (outside.code !== undefined) process.exit()
}

/** Whether an error says that the bus has no directory. */
export function isMissing(error: unknown): error is RingbellError {
  return (
    error instanceof RingbellError && error.code === 'ERR_RINGBELL_SYSTEM' && error.errno === -constants.errno.ENOENT
  )
}

/** The directory and what decided it. Processes that do not find each other often have different directories. */
export function placeOf({ path, pathSource }: Bus): string {
  return `${path} (${pathSource})`
}

async function openBus(
  options: BusOptions,
  missing: Missing,
  patience: number,
  out: Output,
  signal: AbortSignal,
): Promise<Bus> {
  if (missing === 'make') return Bus.open(options)
  const end = performance.now() + (missing === 'wait' ? patience : 0)
  for (let told = false; ; told = true) {
    try {
      return await Bus.open({ ...options, create: false })
    } catch (error) {
      if (!isMissing(error)) throw error
      if (performance.now() >= end) throw new CommandError('ERR_RINGBELL_NOT_FOUND', error.message, { cause: error })
      if (!told) out.note(`${error.message}; waiting until a process makes it`)
    }
    await sleep(LOOK_MS, undefined, { signal })
  }
}

function fail(error: unknown): ExitCode {
  complain(error)
  return exitCodeOf(error)
}
