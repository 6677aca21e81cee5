/** The command line as a whole: global options, the commands (one file each), and the form of usage errors. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { bench } from './commands/bench.js'
import { call } from './commands/call.js'
import { claim } from './commands/claim.js'
import { completion } from './commands/completion.js'
import { doctor } from './commands/doctor.js'
import { exportCommand } from './commands/export.js'
import { gc } from './commands/gc.js'
import { help } from './commands/help.js'
import { hz } from './commands/hz.js'
import { inspect } from './commands/inspect.js'
import { lock } from './commands/lock.js'
import { logs } from './commands/logs.js'
import { ls } from './commands/ls.js'
import { ps } from './commands/ps.js'
import { pub } from './commands/pub.js'
import { push } from './commands/push.js'
import { restart } from './commands/restart.js'
import { run } from './commands/run.js'
import { sem } from './commands/sem.js'
import { serve } from './commands/serve.js'
import { state } from './commands/state.js'
import { stats } from './commands/stats.js'
import { stop } from './commands/stop.js'
import { sub } from './commands/sub.js'
import { top } from './commands/top.js'
import { watch } from './commands/watch.js'
import { work } from './commands/work.js'
import { EXIT, type ExitCode, exitCodeOf } from './exit-codes.js'
import { exitCodesHelp, HELP } from './help.js'
import { interruption } from './interruption.js'
import { withExamples } from './manual.js'
import { complain } from './paint.js'

const COMMANDS = [
  pub,
  sub,
  call,
  serve,
  push,
  work,
  claim,
  state,
  lock,
  sem,
  run,
  ps,
  logs,
  restart,
  stop,
  top,
  hz,
  stats,
  ls,
  inspect,
  watch,
  exportCommand,
  gc,
  doctor,
  bench,
  completion,
  help,
]

const EXAMPLES = [
  'some-command | ringbell pub logs         in one terminal',
  'ringbell sub logs                        in another',
  'ringbell serve upper -- tr a-z A-Z       runs a command for each call',
  'ringbell call upper hello                makes a call and prints the reply',
  'ringbell push jobs < jobs.txt            gives each line to a worker',
  "ringbell work jobs -- sh -c 'cat'        runs a command for each job",
  'ringbell claim backup -- ./backup.sh     runs it in one process at a time',
  'ringbell state watch limits              prints a value, and each change',
  'ringbell lock db -- ./migrate.sh         waits for its turn, as flock(1) does',
  'ringbell run services.yaml               keeps services up, with a primary',
  'ringbell export --format nginx           addresses for other programs',
  "ringbell hz 'sensors.*'                  rates and latencies",
  'ringbell doctor                          what this machine allows',
]

/** The table of commands and options. It parses the command line; help, completions and man page are made from it. */
export function createProgram(): Command {
  const program = new Command('ringbell')
    .description(
      'Processes on one Linux machine find each other without a broker and stream messages through shared memory.',
    )
    .version(version(), '-v, --version', 'show the version')
    .option(
      '--bus <dir>',
      'bus directory (default: $IPC_BUS_DIR; else /run/ipc-bus for root, $XDG_RUNTIME_DIR/ipc-bus or /tmp/ipc-bus-UID)',
    )
    .option('--domain <name>', 'a separate name space on that bus')
    .option('--system', "the system's bus, /run/ipc-bus, instead of --bus")
    .option('--json', 'results as JSON, one object per line for commands that keep running')
    .helpCommand(false)
  withExamples(program, EXAMPLES).addHelpText('after', exitCodesHelp())
  for (const make of COMMANDS) program.addCommand(make())
  for (const command of [program, ...program.commands])
    command
      .exitOverride()
      .helpOption('-h, --help', 'show this help')
      .configureHelp(HELP)
      .configureOutput({ outputError: (text, write) => write(usageError(text)) })
  return program
}

/** Runs a command line; sets the exit code of the process. */
export async function runProgram(argv: readonly string[]): Promise<void> {
  const outside = interruption()
  try {
    await createProgram().parseAsync(argv)
  } catch (error) {
    process.exitCode = outside.code ?? failed(error)
  }
}

function failed(error: unknown): ExitCode {
  // Exit code 0 is that of help and version. Everything else is a wrong command line.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  // The program's own files cannot be read, for example because descriptors ran out.
  complain(error)
  return exitCodeOf(error)
}

function usageError(text: string): string {
  const [sentence = '', ...more] = text
    .trim()
    .replace(/^error: /, '')
    .split('\n')
  return [`ringbell: ${sentence} (ERR_RINGBELL_INVALID_OPTION)`, ...more, ''].join('\n')
}

/** The version of the package. */
export function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return manifest.version
}
