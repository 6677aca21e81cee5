/**
 * An `upstream` of nginx for each service. `metadata.weight` is the weight (0: no new requests), `metadata.backup` or being a standby
 * of a service group makes a backup, and one whose health check fails gets no new requests. nginx refuses the whole configuration for one wrong line, also for a name that it cannot look up
 * and for an upstream without a server, so only what certainly works is written.
 */
import type { Service } from '../../index.js'
import { authority, isNumeric, parseAddress } from '../address.js'
import { chosen, Excuse, type Format, isFailing, noChoice } from '../format.js'

interface Server {
  readonly line: string
  readonly backup: boolean
}

const PREFERRED = ['http', 'https']
/** An upstream must have a server. This one is never asked, so that nginx answers 502. */
const NOBODY: Server = { line: '127.0.0.1:1 down', backup: false }
const MOST_WEIGHT = 65_535

export const nginx: Format<Server> = {
  entry(service, endpoints) {
    const text = chosen(endpoints, PREFERRED)
    if (text === undefined) return noChoice(endpoints)
    const address = parseAddress(text)
    if (address === undefined) return new Excuse(`nginx cannot use the address ${JSON.stringify(text)}`)
    if ('unix' in address) {
      if (address.unix.startsWith('@')) return new Excuse('nginx has no abstract sockets; use a path or a port')
      return server(service, `unix:${address.unix}`)
    }
    if (!isNumeric(address))
      return new Excuse(`nginx refuses to start if it cannot look up ${address.host}; use its IP address`)
    return server(service, authority(address))
  },
  /** nginx does not tell upper case from lower case, and refuses two upstreams of one name. */
  keyOf: (name) => name.toLowerCase(),
  text(groups) {
    const upstreams = [...groups].map(([name, servers]) => `\nupstream ${name} {\n${linesOf(servers)}}\n`)
    return `# Written by ringbell export. Changes are lost.\n${upstreams.join('')}`
  },
}

function server(service: Service, address: string): Server {
  const { metadata, group } = service
  const { weight } = metadata
  const valid = Number.isInteger(weight) && (weight as number) >= 0 && (weight as number) <= MOST_WEIGHT
  const used = valid ? weight : 1
  const how = used === 0 || isFailing(service) ? ' down' : used === 1 ? '' : ` weight=${String(used)}`
  return { line: address + how, backup: metadata['backup'] === true || group?.role === 'standby' }
}

/** Backups alone are no upstream for nginx: then each of them is a server like any other. */
function linesOf(servers: readonly Server[]): string {
  const some = servers.length === 0 ? [NOBODY] : servers
  const alone = some.every(({ backup }) => backup)
  return some.map(({ line, backup }) => `    server ${line}${backup && !alone ? ' backup' : ''};\n`).join('')
}
