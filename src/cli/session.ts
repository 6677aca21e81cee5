/**
 * One run of a command: opens the bus that the global options name, passes it to the command, and always closes it.
 * Only this file turns errors into texts and exit codes. Commands use the public API of the package and nothing else.
 */
import type { Command } from 'commander'
import { Bus } from '../index.js'
import { EXIT, type ExitCode, exitCodeOf, sentenceOf } from './exit-codes.js'
import { Interruption } from './interruption.js'
import { Output } from './output.js'

/** Options that every command has. */
export interface GlobalOptions {
  bus?: string
  domain?: string
  system?: boolean
  json?: boolean
}

export interface Session {
  readonly bus: Bus
  readonly out: Output
  /** Aborted when the command is to end early. */
  readonly signal: AbortSignal
}

export type Body = (session: Session) => Promise<ExitCode | void>

/** Runs a command's body and sets the process's exit code; never throws. */
export async function runSession(command: Command, body: Body): Promise<void> {
  const { bus: path, domain, system, json = false } = command.optsWithGlobals<GlobalOptions>()
  await run(json, async (out, signal) => {
    const bus = await Bus.open({ path, domain, system })
    try {
      return await body({ bus, out, signal })
    } finally {
      await bus.close()
    }
  })
}

/** The same for a command that needs no bus. */
export async function run(
  json: boolean,
  body: (out: Output, signal: AbortSignal) => Promise<ExitCode | void>,
): Promise<void> {
  const interruption = new Interruption()
  const out = new Output(json, interruption)
  let code: ExitCode
  try {
    code = (await body(out, interruption.signal)) ?? EXIT.ok
  } catch (error) {
    code = interruption.code ?? fail(error, out)
  }
  interruption.dispose()
  process.exitCode = interruption.code ?? code
  // After an interruption nothing may keep the process alive, not even output that is not read.
  if (interruption.code !== undefined) process.exit()
}

function fail(error: unknown, out: Output): ExitCode {
  process.stderr.write(`${out.paintNote('red', 'ringbell:')} ${sentenceOf(error)}\n`)
  return exitCodeOf(error)
}
