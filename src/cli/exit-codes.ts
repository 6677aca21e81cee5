/**
 * The exit codes of the CLI, and the text of its errors: one sentence and a code, never a stack. The numbers are
 * documented in `ringbell --help`; scripts depend on them.
 */
import { InvalidArgumentError } from 'commander'

export const EXIT = {
  ok: 0,
  /** Something failed; the sentence on stderr says what. */
  failure: 1,
  /** The command line was wrong. */
  usage: 2,
  /** What was asked for is not there, or did not come in time. */
  notFound: 3,
  /** 128 plus the number of the signal, as in shells. */
  hangUp: 129,
  interrupted: 130,
  terminated: 143,
} as const

export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** The exit codes, as help and man page explain them. */
export const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  ['0', 'done'],
  ['1', 'something failed'],
  ['2', 'the command line is wrong'],
  ['3', 'not found, or not in time'],
  ['130', 'interrupted (Ctrl-C), after closing cleanly; 129 hung up, 143 terminated'],
]

const BY_ERROR: Readonly<Record<string, ExitCode>> = {
  ERR_RINGBELL_INVALID_NAME: EXIT.usage,
  ERR_RINGBELL_INVALID_OPTION: EXIT.usage,
  ERR_RINGBELL_NOT_FOUND: EXIT.notFound,
  ERR_RINGBELL_TIMEOUT: EXIT.notFound,
}

/** A failure that the CLI itself found. */
export class CommandError extends Error {
  override name = 'CommandError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export function exitCodeOf(error: unknown): ExitCode {
  return BY_ERROR[codeOf(error) ?? ''] ?? EXIT.failure
}

/** `message (CODE)`. */
export function sentenceOf(error: unknown): string {
  const code = codeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  return code === undefined ? message : `${message} (${code})`
}

/** For parsers of options. Commander adds the name of the option. */
export function invalidArgument(rule: string): InvalidArgumentError {
  return new InvalidArgumentError(rule)
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : undefined
}
