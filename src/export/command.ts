/** A command that is run after each change, such as `nginx -s reload`. It may fail or hang: it is ended then, with all that it has started. */
import { check, checkArgument, duration, LONGEST_MS, type Rules, signal, text } from '../check.js'
import { reason, RingbellError } from '../errors.js'
import { exitedError } from '../supervise/exit.js'
import { spawn } from '../supervise/spawn.js'
import type { LineListener } from '../supervise/stdio.js'
import type { SignalOptions } from '../wait/abort.js'
import type { ExportChange } from './options.js'

/** How to run a command after each change. */
export interface CommandOptions extends SignalOptions {
  /** Milliseconds that it may take, 30,000 by default. Then it is ended. */
  timeout?: number | undefined
  /** Gets each line of its output; by default they go to stderr. */
  output?: LineListener | undefined
}

const TIMEOUT_MS = 30_000
/** How long it has from SIGTERM to SIGKILL. */
const GRACE_MS = 1000
const RULES: Rules = {
  signal,
  timeout: duration(1, LONGEST_MS, 'milliseconds'),
  output: (value) => (typeof value === 'function' ? undefined : 'must be a function'),
}
const LINE = text(64 * 1024)

/**
 * Makes an `onChange` that runs a line of shell. Its environment has `RINGBELL_EXPORT_FILE`. What it leaves running ends with it, unless that
 * has made a session of its own, as daemons do.
 *
 * The function rejects with `ERR_RINGBELL_EXITED` (it failed), `ERR_RINGBELL_TIMEOUT`, an `AbortError`, or as `spawn` does.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function command(line: string, options: CommandOptions = {}): (change: ExportChange) => Promise<void> {
  checkArgument('command', line, LINE)
  check(options, RULES)
  const { timeout = TIMEOUT_MS, output = toStderr } = options
  return async ({ file }) => {
    const child = await spawn('/bin/sh', ['-c', line], {
      env: { RINGBELL_EXPORT_FILE: file },
      stdio: { stdout: output, stderr: output },
      tied: 'tree',
    })
    try {
      const status = await child.waitForExit(timeout, { signal: options.signal })
      if (!status.exited)
        throw new RingbellError(
          'ERR_RINGBELL_TIMEOUT',
          `The command '${line}' took longer than ${timeout} ms and was ended.`,
        )
      if (status.exitCode !== 0) throw exitedError(`The command '${line}'`, status, await child.lastWords())
    } catch (error) {
      const { exited } = await child.shutdown(GRACE_MS)
      if (!exited)
        throw new RingbellError('ERR_RINGBELL_TIMEOUT', `${reason(error)} It has not ended.`, { cause: error })
      throw error
    }
  }
}

const toStderr: LineListener = (text) => void process.stderr.write(`${text}\n`)
