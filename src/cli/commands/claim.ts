/**
 * `ringbell claim <name> [-- <command>]`: runs a command while this process holds the name, as flock(1) does with a file.
 * Without a command it shows who holds the name.
 */
import { Command, Option } from 'commander'
import { AbortError, type Bus, type Claim, RingbellError } from '../../index.js'
import { EXIT } from '../exit-codes.js'
import { duration, DURATIONS, parseDuration } from '../figures.js'
import { runGuarded } from '../guarded-command.js'
import { withExamples } from '../manual.js'
import { placeOf, runSession, type Session } from '../session.js'
import { checkCommandless } from '../turn.js'

interface ClaimCommandOptions {
  try?: true
  timeout?: number
}

export function claim(): Command {
  const command = new Command('claim')
    .summary('run a command while holding a name that one process holds at a time')
    .description(
      'Waits until no other process holds the name, and runs the command while this one does. Ends with the exit code of the command, ' +
        'or 128 plus the number of the signal that ended it. Signals are passed on to the command. If the claim is lost, the command is ' +
        'ended (exit code 1). The environment of the command has RINGBELL_CLAIM, the name, and RINGBELL_EPOCH, a number that grows with ' +
        'each holder. Without a command it shows the holder (exit code 3 if there is none).',
    )
    .argument('<name>', 'the name')
    .argument('[command...]', "the command and its arguments; after '--' they may begin with '-'")
    .addOption(new Option('--try', 'do not wait if another process holds the name (exit code 3)').conflicts('timeout'))
    .option('-t, --timeout <duration>', `give up after this long (exit code 3) ${DURATIONS}`, parseDuration)
  return withExamples(command, ['ringbell claim backup -- ./backup.sh', 'ringbell claim backup']).action(
    (name: string, words: string[], options: ClaimCommandOptions, self: Command) =>
      words.length === 0
        ? runSession(self, 'fail', (session) => show(session, name, options))
        : runSession(self, 'make', (session) => hold(session, name, words, options)),
  )
}

async function show({ bus, out }: Session, name: string, options: ClaimCommandOptions): Promise<number> {
  checkCommandless('claim', options)
  const { epoch, holder } = bus.claims.query(name)
  if (out.json) await out.value({ name, epoch, holder: holder ?? null })
  else await out.line(`${name}: ${holder === undefined ? 'free' : `held by process ${holder.pid}`}, epoch ${epoch}`)
  return holder === undefined ? EXIT.notFound : EXIT.ok
}

async function hold(
  { bus, out, signal }: Session,
  name: string,
  words: readonly string[],
  options: ClaimCommandOptions,
): Promise<number> {
  out.note(`${name}: waiting for the claim on ${placeOf(bus)}`)
  const held = await claimed(bus, name, signal, options)
  const { epoch, lost } = held
  out.note(`${name}: held, epoch ${epoch}`)
  try {
    return await runGuarded(words, { RINGBELL_CLAIM: name, RINGBELL_EPOCH: String(epoch) }, lost)
  } finally {
    await held.release()
  }
}

/** The claim, in time. */
async function claimed(bus: Bus, name: string, signal: AbortSignal, options: ClaimCommandOptions): Promise<Claim> {
  const { timeout } = options
  const limit = timeout === undefined ? undefined : AbortSignal.timeout(timeout)
  const either = limit === undefined ? signal : AbortSignal.any([signal, limit])
  try {
    const claim = await bus.claim(name, { signal: either, ifAvailable: options.try === true })
    if (claim !== undefined) return claim
  } catch (error) {
    if (!(error instanceof AbortError) || limit?.aborted !== true || signal.aborted) throw error
  }
  const holder = bus.claims.query(name).holder?.pid
  const held = holder === undefined ? 'was held' : `is held by process ${holder}`
  const waited = timeout === undefined ? '' : `, for longer than ${duration(timeout * 1e6)}`
  throw new RingbellError('ERR_RINGBELL_TIMEOUT', `The claim '${name}' ${held}${waited}`)
}
