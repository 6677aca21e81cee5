/**
 * `ringbell state get|set|watch <name>`: a value that one process sets and any process reads. `set` holds the value until it
 * is ended, its command ends, or its input ends. Values are bytes: text of a shell stays as it is.
 */
import { Argument, Command, Option } from 'commander'
import { RingbellError, type Rung, type State, type StateReader } from '../../index.js'
import { CommandError, EXIT } from '../exit-codes.js'
import { duration, DURATIONS, parseCount, parseDuration } from '../figures.js'
import { runGuarded } from '../guarded-command.js'
import { withExamples } from '../manual.js'
import { checkJson, payloadFields, shellCodec } from '../payloads.js'
import { placeOf, runSession, type Session } from '../session.js'
import { announcedState } from '../state-report.js'

interface StateCommandOptions {
  timeout?: number
  count?: number
  size?: number
  codec?: string
  standby?: true
  acquire?: Rung | 'auto'
}

type Action = 'get' | 'set' | 'watch'

export function state(): Command {
  const command = new Command('state')
    .summary('read, set or watch a value that processes share')
    .description(
      'get: prints the value, as soon as there is one. set: sets the value and holds it until it is interrupted, or while the ' +
        "command behind '--' runs; the value '-' is read from stdin, line by line, each line a new value, until stdin ends. " +
        'watch: prints the value as a line, and the newest one after each change. Only one process at a time can set a value ' +
        '(exit code 1 for another, unless it stands by). With --json a line is {"state", "version", "epoch"} with "text", "base64" or "value".',
    )
    .addArgument(new Argument('<action>', 'what to do').choices(['get', 'set', 'watch']))
    .argument('<name>', 'the name of the state')
    .argument('[value]', "set: the value; '-': the lines of stdin")
    .argument('[command...]', "set: a command and its arguments, after '--'")
    .option(
      '-t, --timeout <duration>',
      `get, watch: give up if nothing comes for this long (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
    .option('-n, --count <n>', 'watch: end after this many values', parseCount)
    .option('--size <bytes>', 'set: the largest value in bytes (default: 16384)', parseCount)
    .option('--codec <id>', 'set: the codec to announce (default: bytes)')
    .option('--standby', 'set: while another process sets the value, wait for its end')
    .addOption(
      new Option('--acquire <rung>', 'get, watch: force a rung of acquisition').choices([
        'auto',
        'direct',
        'handshake',
        'stream',
      ]),
    )
  return withExamples(command, [
    'ringbell state set limits 100 -- ./server.sh',
    'ringbell state get limits',
    'ringbell state watch limits',
  ]).action(
    (
      action: Action,
      name: string,
      value: string | undefined,
      words: string[],
      options: StateCommandOptions,
      self: Command,
    ) =>
      action === 'set'
        ? runSession(self, 'make', (session) => set(session, name, value, words, options))
        : runSession(self, 'wait', (session) => read(session, action, name, value, options), options.timeout),
  )
}

async function read(
  { bus, out, signal }: Session,
  action: 'get' | 'watch',
  name: string,
  value: string | undefined,
  options: StateCommandOptions,
): Promise<number> {
  if (value !== undefined) throw wrong(`'${action}' takes a name and no value`)
  const { acquire, timeout } = options
  const reader = await bus.watchState(name, { acquire })
  const hasKeys = new AbortController()
  reader.on('failed', (error, service) => {
    if (service !== undefined && announcedState(service)?.kind === 'keyed') hasKeys.abort()
    else
      out.report(`${name}: ${error.message} (${error.code})`, {
        event: 'failed',
        state: name,
        code: error.code,
        message: error.message,
      })
  })
  out.note(`${name}: waiting for a value on ${placeOf(bus)}`)
  let left = action === 'get' ? 1 : (options.count ?? Infinity)
  while (left-- > 0) {
    const bytes = await nextIn(reader, timeout, signal, hasKeys.signal)
    if (bytes === undefined) return EXIT.ok
    const codec = reader.writers[0]?.service.codec ?? 'bytes'
    const text = Buffer.from(shellCodec(codec).decode(bytes))
    const { version, epoch } = reader
    if (out.json) await out.value({ state: name, version, epoch, ...payloadFields(text, codec) })
    else await out.write(Buffer.concat([text, Buffer.from('\n')]))
  }
  return EXIT.ok
}

/** The next value in time; `undefined` when the command is to end. */
async function nextIn(
  reader: StateReader,
  timeout: number | undefined,
  signal: AbortSignal,
  hasKeys: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { name } = reader
  const limit = timeout === undefined ? undefined : AbortSignal.timeout(timeout)
  const ends = [signal, hasKeys, ...(limit === undefined ? [] : [limit])]
  try {
    return await reader.next({ signal: AbortSignal.any(ends) })
  } catch (error) {
    if (hasKeys.aborted && !signal.aborted) {
      const advice = `Programs read them with bus.watchKeyedState(); 'ringbell inspect ${name}' shows what it is`
      throw new CommandError(
        'ERR_RINGBELL_REFUSED',
        `'${name}' is a state with keys, and keys cannot be read from a shell. ${advice}`,
      )
    }
    if (limit?.aborted !== true || signal.aborted) throw error
    const waited = duration((timeout as number) * 1e6)
    throw new RingbellError('ERR_RINGBELL_TIMEOUT', `No value of '${name}' came for ${waited}`, { cause: error })
  }
}

async function set(
  { bus, out, signal }: Session,
  name: string,
  value: string | undefined,
  words: readonly string[],
  options: StateCommandOptions,
): Promise<number> {
  if (value === undefined) throw wrong("'set' needs a value; '-' reads it from stdin")
  const { size, codec = 'bytes', standby } = options
  const encoded = (text: string): Uint8Array => {
    const bytes = Buffer.from(text)
    if (codec === 'json') checkJson(bytes, codec)
    return bytes
  }
  const first = value === '-' ? undefined : encoded(value)
  const state = await bus.state(name, { size, codec: shellCodec(codec), standby, signal })
  if (first !== undefined) {
    tell(out, name, state.set(first))
    return words.length > 0 ? runGuarded(words, { RINGBELL_STATE: name }, state.lost) : untilLost(state, signal)
  }
  if (words.length > 0) throw wrong("a command cannot be given together with '-'")
  const { createInterface } = await import('node:readline')
  for await (const line of createInterface({ input: process.stdin, signal })) tell(out, name, state.set(encoded(line)))
  return EXIT.ok
}

function tell(out: Session['out'], name: string, version: number): void {
  out.note(`${name}: version ${version}`)
}

/** Holds the value until the command is interrupted. */
async function untilLost(state: State, signal: AbortSignal): Promise<number> {
  const interrupted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  // A promise does not keep the process alive.
  const alive = setInterval(() => {}, 2 ** 30)
  const lost = await Promise.race([state.lost, interrupted])
  clearInterval(alive)
  if (lost !== undefined) throw lost
  return EXIT.ok
}

function wrong(message: string): CommandError {
  return new CommandError('ERR_RINGBELL_INVALID_OPTION', message)
}
