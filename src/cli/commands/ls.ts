/** `ringbell ls`: lists the services on the bus, from one scan. */
import { Command } from 'commander'
import type { Service } from '../../index.js'
import { CommandError } from '../exit-codes.js'
import { size } from '../figures.js'
import { placeOf, runSession, type Session } from '../session.js'
import { columns } from '../table.js'

export function ls(): Command {
  return new Command('ls')
    .summary('list the services on the bus')
    .description(
      'Lists the services on the bus: all, those of a group (audio: audio and audio.mic), or those of a pattern (sensors.*).',
    )
    .argument('[services]', 'a group or a pattern')
    .action((wanted: string | undefined, _options: object, command: Command) =>
      runSession(command, 'fail', (session) => list(session, wanted)),
    )
}

async function list({ bus, out }: Session, wanted: string | undefined): Promise<void> {
  const services = bus.services.list().filter(({ name }) => wanted === undefined || isWanted(name, wanted))
  services.sort((a, b) => (a.name === b.name ? compare(a.id, b.id) : compare(a.name, b.name)))
  if (out.json) await out.write(`${JSON.stringify(services.map(description), undefined, 2)}\n`)
  else if (services.length > 0) {
    // Where instances of other machines are.
    const remote = services.some(({ origin }) => origin !== undefined)
    const titles = ['SERVICE', 'KIND', 'PID', 'TOPIC', 'CODEC', 'ID', ...(remote ? ['HOST'] : [])]
    const header = titles.map((title) => out.paint('bold', title))
    await out.write(`${columns([header, ...services.map(row)], [2]).join('\n')}\n`)
  }
  if (services.length > 0) return out.note(`on ${placeOf(bus)}`)
  const nobody = `No service${wanted === undefined ? '' : ` of '${wanted}'`} is on ${placeOf(bus)}`
  if (wanted !== undefined) throw new CommandError('ERR_RINGBELL_NOT_FOUND', nobody)
  if (!out.json) out.report(nobody, {})
}

/** The service without its `record`, whose further fields only peers need. */
export function description({ record: _record, ...service }: Service): Omit<Service, 'record'> {
  return service
}

function row({ name, kind, pid, topic, codec, id, origin }: Service): string[] {
  const shape = topic === undefined ? '-' : `${size(topic.capacity)} ${topic.overflow}`
  return [name, kind, String(pid), shape, codec ?? '-', id, ...(origin === undefined ? [] : [origin.host])]
}

function isWanted(name: string, wanted: string): boolean {
  if (!wanted.includes('*')) return name === wanted || name.startsWith(`${wanted}.`)
  const pattern = wanted.split('*').map((piece) => piece.replace(/[^A-Za-z0-9_-]/g, '\\$&'))
  return new RegExp(`^${pattern.join('.*')}$`).test(name)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
