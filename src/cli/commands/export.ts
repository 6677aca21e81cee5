/**
 * `ringbell export --format nginx --out FILE --watch --exec 'nginx -s reload'`: the services on the bus in the form that another program
 * reads. All of it is `ringbell/export`; this file reads options and prints.
 */
import { Command, Option } from 'commander'
import {
  command as commandAfter,
  type ExportChange,
  type ExportFormat,
  exportFormats,
  exportTo,
  type LeftOut,
} from '../../export/index.js'
import { CommandError, sentenceOf } from '../exit-codes.js'
import { clock, counted, DURATIONS, parseDuration } from '../figures.js'
import { withExamples } from '../manual.js'
import type { Output } from '../output.js'
import { placeOf, runSession, type Session } from '../session.js'

interface ExportCommandOptions {
  format: ExportFormat
  endpoint?: string
  watch?: true
  out?: string
  exec?: string
  execTimeout?: number
}

export function exportCommand(): Command {
  const self = new Command('export')
    .summary('write the services in the form that another program reads')
    .description(
      'Writes the addresses of services (their endpoints) for Prometheus (file_sd), as upstreams of nginx, as variables, as JSON, or as lines of ' +
        '/etc/hosts. --out replaces a file as a whole, and only if its text changes. --watch keeps it current. --exec runs a command after each ' +
        'change, and with --watch once at the start, with the file in RINGBELL_EXPORT_FILE; it may fail or hang, and the next change runs it again.',
    )
    .argument('[services...]', 'names, or patterns such as web.*; a name is written even if nobody announces it')
    .addOption(new Option('-f, --format <format>', 'the form').choices(exportFormats).default('json'))
    .option('-e, --endpoint <name>', 'the endpoint to use (default: prometheus metrics or http, nginx http)')
    .option('-o, --out <path>', 'write to this file instead of stdout')
    .option('-w, --watch', 'go on, and write again after each change')
    .addOption(new Option('-x, --exec <line>', 'run this line of shell after each change of the file'))
    .option('--exec-timeout <duration>', `end that command after so long (default: 30s) ${DURATIONS}`, parseDuration)
  return withExamples(self, [
    'ringbell export --format prometheus --out targets.json --watch',
    "ringbell export api -f nginx -o api.conf -w -x 'nginx -s reload'",
    'eval "$(ringbell export api --format env)"; echo "$API_HTTP"',
  ]).action((services: string[], options: ExportCommandOptions, command: Command) =>
    runSession(command, options.watch === true ? 'wait' : 'fail', (session) => run(session, services, options)),
  )
}

async function run(
  { bus, out, signal }: Session,
  names: readonly string[],
  options: ExportCommandOptions,
): Promise<void> {
  const { format, endpoint, watch = false, out: file, exec: line, execTimeout: timeout } = options
  if (line !== undefined && file === undefined)
    throw new CommandError('ERR_RINGBELL_INVALID_OPTION', '--exec needs a file that changes: --out')
  const report = new Report(out, format)
  const hook = line === undefined ? undefined : commandAfter(line, { timeout, signal })
  /** Of the change that was told last. */
  let told: Promise<void> | undefined
  const tell = async (change: ExportChange): Promise<void> => {
    await report.change(change)
    await hook?.(change)
  }
  const exporter = await exportTo(bus, {
    format,
    endpoint,
    services: names.length === 0 ? undefined : names,
    file,
    signal,
    // A change may have come while nobody exported, or the command was ended before it was through.
    atStart: watch,
    onChange: (change) => (told = tell(change)),
    // Without --watch there is one change, whose failure is that of the command.
    onError: watch ? (error) => report.failure(error) : undefined,
  })
  try {
    out.note(`exporting ${placeOf(bus)}`)
    if (watch) await aborted(signal)
    else await told
  } finally {
    await exporter.close()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** What happens, for stdout and stderr. */
class Report {
  readonly #out: Output
  readonly #format: ExportFormat
  /** What was left out of the change before: it is told once. */
  #leftOut = new Set<string>()

  constructor(out: Output, format: ExportFormat) {
    this.#out = out
    this.#format = format
  }

  async change({ file, text, services, leftOut }: ExportChange): Promise<void> {
    const out = this.#out
    const now = new Set<string>()
    for (const one of leftOut) {
      const key = `${one.service.id} ${one.reason}`
      if (!this.#leftOut.has(key)) this.#leave(one)
      now.add(key)
    }
    this.#leftOut = now
    if (out.json) await out.value({ at: new Date(), format: this.#format, file, services, text })
    else if (file === undefined) await out.write(text)
    else out.note(`${clock(new Date())}  ${file}: ${counted(services, 'service')}`)
  }

  failure(error: Error): void {
    this.#out.report(sentenceOf(error), { error: sentenceOf(error) })
  }

  #leave({ service: { name, id }, reason }: LeftOut): void {
    this.#out.report(`left out ${name}@${id}: ${reason}`, { leftOut: name, id, reason })
  }
}
