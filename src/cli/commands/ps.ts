/** `ringbell ps [service]`: the instances of service groups, with their roles. */
import { Command } from 'commander'
import { type GroupInstance, instancesOn } from '../../supervise/index.js'
import { CommandError } from '../exit-codes.js'
import { instanceLines } from '../group-text.js'
import { placeOf, runSession, type Session } from '../session.js'

export function ps(): Command {
  return new Command('ps')
    .summary('list the instances of service groups')
    .description(
      'Lists the instances of all service groups on the bus, or of one: those that managers keep up (`ringbell run`), and members that were ' +
        'started by hand or by another supervisor. With --json, one object per line: service, instance, role, epoch, pid, state, restarts.',
    )
    .argument('[service]', 'only this service')
    .action((service: string | undefined, _options: object, command: Command) =>
      runSession(command, 'fail', (session) => list(session, service)),
    )
}

async function list({ bus, out, signal }: Session, service: string | undefined): Promise<void> {
  const instances = await instancesOn(bus, { service, signal })
  if (out.json) for (const instance of instances) await out.value(fields(instance))
  else if (instances.length > 0) await out.write(`${instanceLines(instances, out.paint).join('\n')}\n`)
  if (instances.length > 0) return
  const nobody = `No instance of ${service === undefined ? 'a service group' : `'${service}'`} is on ${placeOf(bus)}`
  if (service !== undefined) throw new CommandError('ERR_RINGBELL_NOT_FOUND', nobody)
  if (!out.json) out.report(nobody, {})
}

/** What `--json` prints of an instance. The first fields are always there. */
export function fields(one: GroupInstance): object {
  const { service, instance, role = null, epoch = null, pid = null, state, restarts, uptime, manager = null } = one
  return { service, instance, role, epoch, pid, state, restarts, uptime, manager }
}
