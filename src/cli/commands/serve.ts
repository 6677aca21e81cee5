/**
 * `ringbell serve <service> -- <command>`: a service in any language, one process for each request. It ends when it is
 * interrupted.
 */
import { once } from 'node:events'
import { Command } from 'commander'
import { type AccessFlags, accessOf, withAccess } from '../access.js'
import { CommandHandler } from '../command-handler.js'
import { counted, parseCount, parseSize } from '../figures.js'
import { withExamples } from '../manual.js'
import { shellCodec } from '../payloads.js'
import { placeOf, runSession, type Session } from '../session.js'

interface CommandOptions extends AccessFlags {
  codec: string
  schemaId?: string
  capacity?: number
  jobs: number
  stream?: boolean
}

/** Milliseconds that pending requests have to end after an interruption. */
const GRACE_MS = 3000

export function serve(): Command {
  const command = new Command('serve')
    .summary('answer calls by running a command')
    .description(
      'Answers every call by running a command: its stdin is the request, its stdout is the reply, and its stderr is that of `serve`. If its ' +
        'exit code is not 0, the caller gets an error (ERR_COMMAND_FAILED). If the caller gives up, the command is killed ' +
        '(SIGTERM). Its environment has RINGBELL_SERVICE, RINGBELL_PEER_PID, RINGBELL_PEER_UID and RINGBELL_REDELIVERED.',
    )
    .argument('<service>', 'service name to serve under')
    .argument('<command...>', "the command and its arguments; after '--' they may begin with '-'")
    .option('--codec <id>', 'codec to announce, such as json; the bytes are passed on as they come', 'bytes')
    .option('--schema-id <id>', 'id of the schema to announce, such as reading/2')
    .option('--capacity <size>', "bytes of each connection's rings, a power of two (default: 64K)", parseSize)
    .option('-j, --jobs <n>', 'the most commands at once; further calls wait', parseCount, 16)
    .option('-s, --stream', 'send the output of the command as it comes, to `call --stream`')
  return withExamples(withAccess(command), [
    'ringbell serve upper -- tr a-z A-Z',
    'ringbell serve upper --uids 1000,1001 -- tr a-z A-Z',
  ]).action((name: string, words: string[], options: CommandOptions, command: Command) =>
    runSession(command, 'make', (session) => run(session, name, words, options)),
  )
}

async function run({ bus, out, signal }: Session, name: string, words: string[], options: CommandOptions) {
  const { codec, schemaId, capacity, jobs, stream = false } = options
  const commands = new CommandHandler(name, words, jobs)
  const server = await bus.serve(
    name,
    { codec: shellCodec(codec), schemaId, capacity, access: accessOf(options) },
    (request, context) => (stream ? commands.stream(request, context) : commands.reply(request, context)),
  )
  server.on('failed', ({ code, message }) => out.report(`${message} (${code})`, { event: 'failed', code, message }))
  out.note(`${name}: serving on ${placeOf(bus)}, Ctrl-C ends`)
  if (!signal.aborted) await once(signal, 'abort')
  await server.close({ grace: GRACE_MS })
  const { requests, errors } = server.stats()
  out.note(`${name}: ${counted(requests, 'request')}, ${counted(errors, 'error')}`)
}
