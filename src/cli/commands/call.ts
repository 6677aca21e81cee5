/**
 * `ringbell call <service> [data]`: makes one call and prints the reply to stdout. The bytes are sent and printed as
 * they are, for any codec of the server: JSON stays JSON. An error of the handler goes to stderr, with its code.
 */
import { Command, Option } from 'commander'
import { AbortError, RingbellError } from '../../index.js'
import { duration, DURATIONS, parseDuration } from '../figures.js'
import { mismatch } from '../kind-mismatch.js'
import { rawCodec } from '../raw-codec.js'
import { payload } from '../rendering.js'
import { runSession, type Session } from '../session.js'

interface CommandOptions {
  timeout: number
  stream?: boolean
  idempotent?: boolean
}

const NEWLINE = 0x0a

export function call(): Command {
  return new Command('call')
    .summary('call a service')
    .description(
      'Calls a service and prints its reply. The request is DATA or stdin. It is sent as it is, so a server with the codec\n' +
        'json must get JSON. With --json the reply is {"value"}, {"text"} or {"base64"}.',
    )
    .argument('<service>', 'service name')
    .argument('[data]', "the request; '-' is stdin (default: stdin, unless it is a terminal)")
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
    .addHelpText('after', '\nExample:\n  ringbell call upper hello')
    .action((name: string, data: string | undefined, options: CommandOptions, command: Command) =>
      runSession(command, (session) => run(session, name, data, options)),
    )
}

async function run({ bus, out, signal }: Session, name: string, data: string | undefined, options: CommandOptions) {
  const begin = performance.now()
  const request = await requestOf(data, signal)
  const { timeout } = options
  const { codec = 'bytes' } = await server({ bus, signal }, name, timeout)
  const client = await bus.connect(name, { codec: rawCodec(codec) })
  const failures: RingbellError[] = []
  client.on('failed', (error) => failures.push(error))
  const print = (reply: Uint8Array): Promise<void> | undefined => {
    const bytes = Buffer.from(reply)
    if (out.json) return out.value(payload(bytes, codec === 'json'))
    const ends = bytes.at(-1) === NEWLINE || (codec === 'bytes' && options.stream !== true && !process.stdout.isTTY)
    return out.write(ends ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]))
  }
  if (options.stream === true) {
    for await (const piece of client.stream(request, { signal })) await print(piece)
    return
  }
  const left = Math.max(1, timeout - (performance.now() - begin))
  try {
    await print(await client.call(request, { timeout: left, signal, idempotent: options.idempotent ?? false }))
  } catch (error) {
    const late = error instanceof RingbellError && error.code === 'ERR_RINGBELL_TIMEOUT'
    // The reason why there was no connection says more than the timeout.
    throw (late ? failures.at(-1) : undefined) ?? error
  }
}

/** Finds an instance that answers calls. */
async function server({ bus, signal }: Pick<Session, 'bus' | 'signal'>, name: string, timeout: number) {
  const late = AbortSignal.timeout(Math.ceil(timeout))
  try {
    const events = bus.services.watch({ filter: name, signal: AbortSignal.any([signal, late]) })
    for await (const { service, type } of events) if (type === 'added' && service.kind === 'server') return service
  } catch (error) {
    if (!(error instanceof AbortError) || !late.aborted) throw error
  }
  throw new RingbellError(
    'ERR_RINGBELL_NOT_FOUND',
    `No process serves '${name}' on ${bus.path} (waited ${duration(timeout * 1e6)})${mismatch(bus, name, 'server')}`,
  )
}

async function requestOf(data: string | undefined, signal: AbortSignal): Promise<Uint8Array> {
  if (data !== undefined && data !== '-') return Buffer.from(data)
  if (data === undefined && process.stdin.isTTY) return new Uint8Array(0)
  const chunks: Uint8Array[] = []
  const stop = (): void => void process.stdin.destroy()
  signal.addEventListener('abort', stop, { once: true })
  for await (const chunk of process.stdin as AsyncIterable<Uint8Array>) chunks.push(chunk)
  signal.removeEventListener('abort', stop)
  signal.throwIfAborted()
  return Buffer.concat(chunks)
}
