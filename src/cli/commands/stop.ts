/** `ringbell stop <service>`: ends the instances of a service, and with them the `ringbell run` that keeps them up. */
import { Command } from 'commander'
import { duration, DURATIONS, parseDuration } from '../figures.js'
import { fromAll, managersOf, TIMEOUT } from '../managers.js'
import { runSession, type Session } from '../session.js'
import { fields } from './ps.js'

interface CommandOptions {
  grace?: number
  timeout?: number
}

export function stop(): Command {
  return new Command('stop')
    .summary('end the instances of a service')
    .description(
      'Asks the managers of a service (`ringbell run`) to end their instances, all at the same time, and to start none any more. Members ' +
        'that others have started are left alone. Ends when all have ended.',
    )
    .argument('<service>', 'the service')
    .option(
      '-g, --grace <duration>',
      `time that all of them have to end before they are killed ${DURATIONS}`,
      parseDuration,
    )
    .option(...TIMEOUT, parseDuration)
    .action((service: string, options: CommandOptions, command: Command) =>
      runSession(command, 'fail', (session) => end(session, service, options)),
    )
}

async function end({ bus, out, signal, began }: Session, service: string, options: CommandOptions): Promise<void> {
  const managers = managersOf(bus, service)
  const instances = (await fromAll(managers, (manager) => manager.stop({ ...options, signal }))).flat()
  if (out.json) for (const instance of instances) await out.value(fields(instance))
  else out.note(`${service}: ${instances.length} ended in ${duration((performance.now() - began) * 1e6)}`)
}
