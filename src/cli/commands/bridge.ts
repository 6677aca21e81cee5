/**
 * `ringbell bridge <server...>`: chosen topics and services of this bus on the buses of other machines, and theirs on this one. It ends
 * when it is interrupted.
 */
import { once } from 'node:events'
import { Command, Option } from 'commander'
import type { RingbellError } from '../../index.js'
import type { Bridge, BridgeOptions } from '../../bridge/index.js'
import { type AccessFlags, accessOf, withAccess } from '../access.js'
import { DURATIONS, parseDuration, parseSize } from '../figures.js'
import { withExamples } from '../manual.js'
import { placeOf, runSession, type Session } from '../session.js'

interface CommandOptions extends AccessFlags {
  topics: string[]
  services: string[]
  network?: string
  creds?: string
  user?: string
  tlsCa?: string
  tlsCert?: string
  tlsKey?: string
  tlsFirst?: true
  lease?: number
  window?: number
}

export function bridge(): Command {
  const command = new Command('bridge')
    .summary('topics and services of other machines, through NATS')
    .description(
      'Bridges this bus to those of other machines, where the same command runs with the same NATS server. Topics and services that the ' +
        'lists name leave this bus, and those of other buses that the lists name appear on it. Nothing else crosses. One bridge of a bus ' +
        'is active; a second one stands by. It needs the npm package @nats-io/transport-node. A password or a token is read from the ' +
        'environment: NATS_PASSWORD, NATS_TOKEN.',
    )
    .argument('<server...>', 'the NATS server, such as nats://host:4222, or several of one cluster')
    .option('-t, --topics <name...>', "names and patterns of topics, such as 'sensors.*'", [])
    .option('-S, --services <name...>', 'names and patterns of services that are called', [])
    .option(
      '--network <subject>',
      'beginning of the NATS subjects; bridges with another one are not seen (default: ringbell)',
    )
    .option('--creds <file>', 'credentials file of NATS')
    .option('--user <name>', 'user name, with the password in NATS_PASSWORD')
    .option('--tls-ca <file>', 'certificates of those who sign for the server (PEM)')
    .option('--tls-cert <file>', 'certificate of this client (PEM)')
    .option('--tls-key <file>', 'key of this client (PEM)')
    .option('--tls-first', 'begin with TLS, for a server with handshake_first')
    .addOption(
      new Option(
        '--lease <duration>',
        `machines that are not heard of for so long are gone ${DURATIONS} (default: 5s)`,
      ).argParser(parseDuration),
    )
    .option('--window <size>', 'bytes of one topic on their way to one machine (default: 1M)', parseSize)
  return withExamples(withAccess(command), [
    "ringbell bridge nats://hub:4222 --topics 'sensors.*' --services price",
    'ringbell bridge tls://hub:4222 --services price --creds site.creds',
  ]).action((servers: string[], options: CommandOptions, self: Command) =>
    runSession(self, 'make', (session) => run(session, servers, options)),
  )
}

async function run({ bus, out, signal }: Session, servers: string[], options: CommandOptions): Promise<void> {
  const { Bridge } = await import('../../bridge/index.js')
  out.note(`bridge of ${placeOf(bus)}: connecting to ${servers.join(', ')}`)
  const bridge = await Bridge.open(bus, optionsOf(servers, options))
  report(bridge, out)
  if (!signal.aborted) await once(signal, 'abort')
  await bridge.close()
}

/** Says what happens, one line for each event. */
function report(bridge: Bridge, out: Session['out']): void {
  const tell = (text: string, fields: object): void => out.report(text, fields)
  if (bridge.state === 'standby') tell('standing by: another process bridges this bus', { event: 'standby' })
  if (bridge.state === 'active') tell(`active, through ${bridge.server}`, { event: 'active', server: bridge.server })
  bridge.on('active', () => tell(`active, through ${bridge.server}`, { event: 'active', server: bridge.server }))
  bridge.on('disconnected', () => tell('NATS is lost, and is tried again', { event: 'disconnected' }))
  bridge.on('joined', ({ bus, host }) => tell(`joined: the bus of ${host}`, { event: 'joined', bus, host }))
  bridge.on('left', ({ bus, host }, why) => tell(`left: the bus of ${host}: ${why}`, { event: 'left', bus, host, why }))
  bridge.on('failed', ({ code, message }: RingbellError) =>
    tell(`${message} (${code})`, { event: 'failed', code, message }),
  )
}

function optionsOf(servers: string[], options: CommandOptions): BridgeOptions {
  const { topics, services, network, creds, user, tlsCa, tlsCert, tlsKey, tlsFirst, lease, window } = options
  const tls = { caFile: tlsCa, certFile: tlsCert, keyFile: tlsKey, handshakeFirst: tlsFirst }
  return {
    servers,
    topics,
    services,
    network,
    credsFile: creds,
    user,
    password: process.env['NATS_PASSWORD'],
    token: process.env['NATS_TOKEN'],
    tls: Object.values(tls).some((value) => value !== undefined) ? tls : undefined,
    lease,
    window,
    access: accessOf(options),
  }
}
