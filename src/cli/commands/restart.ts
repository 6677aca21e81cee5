/** `ringbell restart <service>`: replaces the instances of a service one after the other, without a failed call. */
import { Command } from 'commander'
import { instanceLines } from '../group-text.js'
import { parseDuration } from '../figures.js'
import { fromAll, managersOf, TIMEOUT } from '../managers.js'
import { runSession, type Session } from '../session.js'
import { fields } from './ps.js'

interface CommandOptions {
  failover?: true
  timeout?: number
}

export function restart(): Command {
  return new Command('restart')
    .summary('replace the instances of a service, one after the other')
    .description(
      'Asks the managers of a service (`ringbell run`) to replace their instances one after the other: the new one is started first, then the ' +
        'old one steps down, ends its calls, and is ended. Clients that follow the primary have no failed call. Ends when all are replaced.',
    )
    .argument('<service>', 'the service')
    .option('--failover', 'only make another member primary, and restart nothing')
    .option(...TIMEOUT, parseDuration)
    .action((service: string, options: CommandOptions, command: Command) =>
      runSession(command, 'fail', (session) => replace(session, service, options)),
    )
}

async function replace(
  { bus, out, signal }: Session,
  service: string,
  { failover, timeout }: CommandOptions,
): Promise<void> {
  const managers = managersOf(bus, service)
  const [first] = managers
  const how = { timeout, signal }
  if (failover === true) await first?.forceFailover(how)
  // One manager after the other, so that only one instance is replaced at a time.
  else for (const manager of managers) await manager.restart(how)
  const instances = (await fromAll(managers, (manager) => manager.instances(how))).flat()
  if (out.json) for (const instance of instances) await out.value(fields(instance))
  else await out.write(`${instanceLines(instances, out.paint).join('\n')}\n`)
}
