/** `ringbell logs <service>`: the output of the instances of a service. */
import { Command, Option } from 'commander'
import type { LogLine } from '../../supervise/index.js'
import { clock, parseAmount, parseDuration } from '../figures.js'
import { fromAll, managersOf, TIMEOUT } from '../managers.js'
import type { Output } from '../output.js'
import { runSession, type Session } from '../session.js'

interface CommandOptions {
  lines: number
  follow?: true
  timeout?: number
}

export function logs(): Command {
  return new Command('logs')
    .summary('show the output of the instances of a service')
    .description(
      'Shows the last lines that the instances of a service have written, as their managers (`ringbell run`) keep them: at most 1,000. What ' +
        'goes to a file is not kept there. With --follow it goes on until the group ends.',
    )
    .argument('<service>', 'the service')
    .option('-f, --follow', 'go on with the lines that come')
    .addOption(new Option('-n, --lines <n>', 'how many of the last lines').argParser(parseAmount).default(10))
    .option(...TIMEOUT, parseDuration)
    .action((service: string, options: CommandOptions, command: Command) =>
      runSession(command, 'fail', (session) => show(session, service, options)),
    )
}

async function show({ bus, out, signal }: Session, service: string, options: CommandOptions): Promise<void> {
  await fromAll(managersOf(bus, service), async (manager) => {
    for await (const line of manager.logs({ ...options, signal }))
      await (out.json ? out.value({ service, ...line }) : out.line(text(line, service, out)))
  })
}

function text({ time, instance, stream, line }: LogLine, service: string, { paint }: Output): string {
  const place = paint(stream === 'stderr' ? 'yellow' : 'cyan', `${service}/${instance}`)
  return `${paint('dim', clock(new Date(time)))}  ${place}  ${line}`
}
