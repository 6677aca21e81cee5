/** The command line as a whole: global options, the commands (one file each), and the form of usage errors. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { bench } from './commands/bench.js'
import { call } from './commands/call.js'
import { doctor } from './commands/doctor.js'
import { gc } from './commands/gc.js'
import { hz } from './commands/hz.js'
import { inspect } from './commands/inspect.js'
import { ls } from './commands/ls.js'
import { pub } from './commands/pub.js'
import { serve } from './commands/serve.js'
import { stats } from './commands/stats.js'
import { sub } from './commands/sub.js'
import { watch } from './commands/watch.js'
import { EXIT, EXIT_CODES_HELP } from './exit-codes.js'

const EXAMPLES = `Examples:
  some-command | ringbell pub logs         in one terminal
  ringbell sub logs                        in another
  ringbell serve upper -- tr a-z A-Z       runs a command for each call
  ringbell call upper hello                makes a call and prints the reply
  ringbell hz 'sensors.*'                  rates and latencies
  ringbell doctor                          what this machine allows`

/** Runs a command line; sets the exit code of the process. */
export async function runProgram(argv: readonly string[]): Promise<void> {
  const program = new Command('ringbell')
    .description(
      'Processes on one Linux machine find each other without a broker and stream messages through shared memory.',
    )
    .version(version(), '-V, --version')
    .option('--bus <dir>', 'bus directory (default: $IPC_BUS_DIR, or the first usable default directory)')
    .option('--domain <name>', 'a separate name space on that bus')
    .option('--system', "the system's bus, /run/ipc-bus, instead of --bus")
    .option('--json', 'results as JSON, one object per line for commands that keep running')
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .addHelpText('after', `\n${EXAMPLES}\n\n${EXIT_CODES_HELP}`)
  for (const command of [
    pub(),
    sub(),
    call(),
    serve(),
    hz(),
    stats(),
    ls(),
    inspect(),
    watch(),
    gc(),
    doctor(),
    bench(),
  ])
    program.addCommand(command)
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ outputError: (text, write) => write(usageError(text)) })
    if (command !== program) command.configureHelp({ showGlobalOptions: true })
  }
  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Exit code 0 is that of help and version. Everything else is a wrong command line.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
  }
}

function usageError(text: string): string {
  const [sentence = '', ...more] = text
    .trim()
    .replace(/^error: /, '')
    .split('\n')
  return [`ringbell: ${sentence} (ERR_RINGBELL_INVALID_OPTION)`, ...more, ''].join('\n')
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return manifest.version
}
