/**
 * `ringbell lock <name> [-- <command>]`: runs a command while this process holds a lock, as flock(1) does with a file. Without
 * a command it shows who holds the lock and who waits.
 */
import { Command, Option } from 'commander'
import type { Lock, LockInfo } from '../../index.js'
import { EXIT } from '../exit-codes.js'
import { DURATIONS, parseDuration } from '../figures.js'
import { runGuarded } from '../guarded-command.js'
import { withExamples } from '../manual.js'
import { placeOf, runSession, type Session } from '../session.js'
import { checkCommandless, notAvailable } from '../turn.js'

interface LockCommandOptions {
  shared?: true
  try?: true
  timeout?: number
}

export function lock(): Command {
  const command = new Command('lock')
    .summary('run a command while holding a lock')
    .description(
      'Waits for the lock, and runs the command while this process holds it. Ends with the exit code of the command, or 128 plus the ' +
        'number of the signal that ended it. Signals are passed on to the command. The environment of the command has RINGBELL_LOCK, the ' +
        'name, and RINGBELL_ABANDONED: 1 if the last holder was killed, else 0. It is also 0 if no other process had the lock open then, such as one that ' +
        "waited: let a long-lived process keep it open (bus.locks.open), or use 'ringbell claim' and its epoch. Without a command it shows who holds the lock and who waits " +
        '(exit code 3 if nobody holds it).',
    )
    .argument('<name>', 'the name')
    .argument('[command...]', "the command and its arguments; after '--' they may begin with '-'")
    .option('--shared', 'hold it together with others that share it')
    .addOption(new Option('--try', 'do not wait if it is held (exit code 3)').conflicts('timeout'))
    .option('-t, --timeout <duration>', `give up after this long (exit code 3) ${DURATIONS}`, parseDuration)
  return withExamples(command, ['ringbell lock db -- ./migrate.sh', 'ringbell lock --shared db -- ./report.sh']).action(
    (name: string, words: string[], options: LockCommandOptions, self: Command) =>
      words.length === 0
        ? runSession(self, 'fail', (session) => show(session, name, options))
        : runSession(self, 'make', (session) => hold(session, name, words, options)),
  )
}

async function show({ bus, out }: Session, name: string, options: LockCommandOptions): Promise<number> {
  checkCommandless('lock', options)
  const { held, pending } = await bus.locks.query(name)
  if (out.json) await out.value({ name, held, pending })
  else if (held.length === 0) await out.line(`${name}: free`)
  else {
    await out.line(`${name}: held by ${held.map(client).join(', ')}`)
    for (const one of pending) await out.line(`  waits: ${client(one)}`)
  }
  return held.length === 0 ? EXIT.notFound : EXIT.ok
}

function client({ pid, mode }: LockInfo): string {
  return `process ${pid} (${mode})`
}

async function hold(
  session: Session,
  name: string,
  words: readonly string[],
  options: LockCommandOptions,
): Promise<number> {
  session.out.note(`${name}: waiting for the lock on ${placeOf(session.bus)}`)
  const held = await taken(session, name, options)
  session.out.note(`${name}: held`)
  try {
    return await runGuarded(words, { RINGBELL_LOCK: name, RINGBELL_ABANDONED: held.abandoned ? '1' : '0' })
  } finally {
    held.release()
  }
}

async function taken({ bus, signal }: Session, name: string, options: LockCommandOptions): Promise<Lock> {
  const mode = options.shared === true ? 'shared' : 'exclusive'
  if (options.try !== true) return bus.locks.acquire(name, { mode, signal, timeout: options.timeout })
  const held = await bus.locks.tryAcquire(name, { mode })
  if (held === undefined) throw notAvailable(`lock '${name}'`)
  return held
}
