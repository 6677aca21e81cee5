/** `ringbell sem <name> --permits <n> -- <command>`: runs a command while this process has a permit of a semaphore. */
import { Command, Option } from 'commander'
import type { Permits, Semaphore } from '../../index.js'
import { DURATIONS, parseCount, parseDuration } from '../figures.js'
import { runGuarded } from '../guarded-command.js'
import { withExamples } from '../manual.js'
import { placeOf, runSession, type Session } from '../session.js'
import { notAvailable } from '../turn.js'

interface SemCommandOptions {
  permits: number
  take: number
  try?: true
  timeout?: number
}

export function sem(): Command {
  const command = new Command('sem')
    .summary('run a command in so many processes at a time')
    .description(
      'Waits for a permit of the semaphore, and runs the command while this process has it. Permits are given in the order of the ' +
        'requests, and those of killed processes come back. Ends with the exit code of the command, or 128 plus the number of the signal ' +
        'that ended it. Signals are passed on to the command. Its environment has RINGBELL_SEMAPHORE, the name.',
    )
    .argument('<name>', 'the name')
    .argument('<command...>', "the command and its arguments; after '--' they may begin with '-'")
    .requiredOption(
      '-n, --permits <count>',
      'how many permits there are in all; every process names the same number',
      parseCount,
    )
    .option('--take <count>', 'how many of them to take', parseCount, 1)
    .addOption(new Option('--try', 'do not wait for a permit (exit code 3)').conflicts('timeout'))
    .option('-t, --timeout <duration>', `give up after this long (exit code 3) ${DURATIONS}`, parseDuration)
  return withExamples(command, ['ringbell sem downloads --permits 4 -- curl -O https://example.com/file']).action(
    (name: string, words: string[], options: SemCommandOptions, self: Command) =>
      runSession(self, 'make', (session) => hold(session, name, words, options)),
  )
}

async function hold(
  { bus, out, signal }: Session,
  name: string,
  words: readonly string[],
  options: SemCommandOptions,
): Promise<number> {
  out.note(`${name}: waiting for a permit on ${placeOf(bus)}`)
  const semaphore = await bus.semaphore(name, { permits: options.permits, signal })
  const held = await taken(semaphore, signal, options)
  out.note(`${name}: has ${held.count} of ${semaphore.permits}`)
  try {
    return await runGuarded(words, { RINGBELL_SEMAPHORE: name })
  } finally {
    held.release()
  }
}

async function taken(semaphore: Semaphore, signal: AbortSignal, options: SemCommandOptions): Promise<Permits> {
  if (options.try !== true) return semaphore.acquire(options.take, { signal, timeout: options.timeout })
  const held = semaphore.tryAcquire(options.take)
  if (held === undefined) throw notAvailable(`semaphore '${semaphore.name}'`)
  return held
}
