/**
 * `ringbell call <service> [data]`: makes one call and prints the reply to stdout. The record of the server names its
 * codec, and payloads.ts converts text to and from it. An error of the handler goes to stderr, with its code.
 */
import { Command, Option } from 'commander'
import type { Bus, Client, MessageHeaders, RingbellError, Service } from '../../index.js'
import { CommandError } from '../exit-codes.js'
import { DURATIONS, parseDuration } from '../figures.js'
import { headerField, type HeaderFlags, withHeaders } from '../headers.js'
import { Input, withFile } from '../input.js'
import { firstInstance } from '../instance.js'
import { withExamples } from '../manual.js'
import { payloadFields, shellCodec } from '../payloads.js'
import { runSession, type Session } from '../session.js'
import { LARGEST } from '../splitter.js'

interface CommandOptions extends HeaderFlags {
  file?: string
  timeout: number
  stream?: boolean
  idempotent?: boolean
}

const NEWLINE = 0x0a

export function call(): Command {
  const command = new Command('call')
    .summary('call a service')
    .description(
      'Calls a service and prints its reply. The request is DATA or stdin. A server with the codec json or structured must ' +
        'get JSON; for any other codec the bytes are sent as they are. With --json the reply is {"value"}, {"text"} or ' +
        '{"base64"}, with "headers" if it has some.',
    )
    .argument('<service>', 'service name')
    .argument('[data]', "the request; '-' is stdin (default: stdin, unless it is a terminal)")
  withFile(command)
    .addOption(
      new Option('-t, --timeout <duration>', `time limit, including the search for the server ${DURATIONS}`)
        .argParser(parseDuration)
        .default(10_000, '10s'),
    )
    .option(
      '-s, --stream',
      'print a streamed reply, one line for each piece; the time limit is only for the search for the server',
    )
    .option('-i, --idempotent', 'call again if the server is lost and it is unknown whether it handled the call')
  return withExamples(withHeaders(command, 'the request'), [
    'ringbell call upper hello --header tenant=acme',
    'ringbell call thumbnail --file picture.png > small.png',
  ]).action((name: string, data: string | undefined, options: CommandOptions, command: Command) =>
    runSession(command, 'wait', (session) => run(session, name, data, options), options.timeout),
  )
}

async function run(session: Session, name: string, data: string | undefined, options: CommandOptions): Promise<void> {
  const { bus, out, signal, began } = session
  const { timeout, header: headers } = options
  const left = (): number => Math.max(1, timeout - (performance.now() - began))
  const request = await requestOf(data, options.file, signal)
  const { codec = 'bytes' } = await firstInstance(session, name, 'server', 'serves', left())
  const client = await bus.connect(name, { codec: shellCodec(codec) })
  const failures: RingbellError[] = []
  client.on('failed', (error) => failures.push(error))
  const refusal = refused(client, bus)
  const over = AbortSignal.any([signal, refusal])
  const print = (reply: Uint8Array, replied: MessageHeaders = {}): Promise<void> | undefined => {
    const bytes = Buffer.from(reply)
    if (out.json) return out.value({ ...payloadFields(bytes, codec), ...headerField(replied) })
    const ends = bytes.at(-1) === NEWLINE || (codec === 'bytes' && options.stream !== true && !process.stdout.isTTY)
    return out.write(ends ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]))
  }
  try {
    if (options.stream === true) {
      for await (const piece of client.stream(request, { headers, signal: over })) await print(piece)
    } else {
      const { idempotent = false } = options
      const reply = await client.exchange(request, { headers, timeout: left(), signal: over, idempotent })
      await print(reply.value, reply.headers)
    }
  } catch (error) {
    if (refusal.aborted && !signal.aborted) throw refusal.reason
    const { code } = error as { code?: unknown }
    if (code === 'ERR_RINGBELL_STREAM')
      throw new CommandError(code, `'${name}' answers with a stream; call it with --stream.`, { cause: error })
    // The reason why there was no connection says more than the timeout.
    throw (code === 'ERR_RINGBELL_TIMEOUT' ? failures.at(-1) : undefined) ?? error
  }
}

/** Errors of connecting that another try does not fix as long as the server is the same. */
const REFUSALS = new Set<string>([
  'ERR_RINGBELL_ACQUIRE',
  'ERR_RINGBELL_CORRUPT_PEER',
  'ERR_RINGBELL_NO_PERMISSION',
  'ERR_RINGBELL_PROTOCOL_VERSION',
  'ERR_RINGBELL_REFUSED',
])

/** Aborted, with the error as its reason, as soon as every instance of the service has refused us: nobody is left to wait for. */
function refused(client: Client, { services }: Bus): AbortSignal {
  const over = new AbortController()
  const refusedBy = new Set<string>()
  client.on('failed', (error, service) => {
    if (service === undefined || !REFUSALS.has(error.code)) return
    refusedBy.add(service.id)
    let instances: Service[]
    try {
      instances = services.list().filter(({ name, kind }) => name === service.name && kind === service.kind)
    } catch {
      // The directory cannot be read now. The call goes on waiting, and its time limit ends it.
      return
    }
    if (instances.every(({ id }) => refusedBy.has(id))) over.abort(error)
  })
  return over.signal
}

async function requestOf(data: string | undefined, file: string | undefined, signal: AbortSignal): Promise<Uint8Array> {
  const input = await Input.open(data, { whole: true, ...(file === undefined ? {} : { file }) }, signal)
  try {
    // Without DATA, a terminal is not read, and the request is empty.
    return data === undefined && input.isTyped ? new Uint8Array(0) : await input.whole(LARGEST)
  } finally {
    await input.close()
  }
}
