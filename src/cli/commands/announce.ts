/**
 * `ringbell announce <name> --unix PATH | --port N | --url URL [-- <command>]`: announces where a program can be reached while it runs,
 * without any change to the program. Without a command it announces something that runs already.
 */
import { once } from 'node:events'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { checkResolve } from '../../announce/resolve-options.js'
import { checkName } from '../../bus/names.js'
import { checkAnnounce } from '../../bus/options.js'
import { type Announced, type AnnounceOptions, type Bus, canConnect, RingbellError } from '../../index.js'
import { CommandError, invalidArgument } from '../exit-codes.js'
import { duration, DURATIONS, parseDuration } from '../figures.js'
import { runGuarded } from '../guarded-command.js'
import { withExamples } from '../manual.js'
import { placeOf, runSession, type Session } from '../session.js'

interface AnnounceCommandOptions {
  unix?: string
  port?: number
  url?: string
  endpoint: string
  tags?: string[]
  health?: number
  test: boolean
  timeout?: number
}

/** The longest interval of a timer. */
const LONGEST_MS = 2 ** 31 - 1
/** Milliseconds between two tests whether it accepts connections. There is no event for that. */
const TEST_MS = 50

export function announce(): Command {
  const command = new Command('announce')
    .summary('announce where a program can be reached, while it runs')
    .description(
      'Runs the command, and announces its endpoint on the bus once it accepts connections there. When the command ends, however it ends, the ' +
        'announcement is withdrawn. Ends with the exit code of the command, or 128 plus the number of the signal that ended it. Signals are passed ' +
        'on to the command. Its environment has RINGBELL_SERVICE, the name, and RINGBELL_ADDRESS. Without a command it announces what runs ' +
        'already, until it is interrupted.',
    )
    .argument('<service>', 'service name to announce')
    .argument('[command...]', "the command and its arguments; after '--' they may begin with '-'")
    .addOption(new Option('--unix <path>', 'the Unix socket that the program listens on').conflicts(['port', 'url']))
    .addOption(
      new Option('--port <n>', 'the TCP port that it listens on, at 127.0.0.1').argParser(parsePort).conflicts('url'),
    )
    .option('--url <url>', 'where it can be reached, with a host and a port')
    .option('--endpoint <name>', 'name of the endpoint', 'http')
    .option('--tags <words>', 'words by which others choose it, with commas between them', (text) => text.split(','))
    .option(
      '--health <duration>',
      `go on testing this often whether it accepts connections; if not, others do not choose it ${DURATIONS}`,
      parseDuration,
    )
    .option('--no-test', 'announce it at once, without testing whether it accepts connections')
    .option(
      '-t, --timeout <duration>',
      `end the command if it accepts no connections within this time (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
  return withExamples(command, [
    'ringbell announce api --unix ./api.sock -- node api.js',
    'ringbell announce api --port 8080 --health 5s -- ./api',
  ]).action((name: string, words: string[], options: AnnounceCommandOptions, self: Command) =>
    runSession(self, 'make', (session) => {
      checkFirst(name, options)
      return words.length === 0 ? whileHere(session, name, options) : whileItRuns(session, name, words, options)
    }),
  )
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65535) throw invalidArgument('A port is a number from 1 to 65535.')
  return port
}

function addressOf({ unix, port, url }: AnnounceCommandOptions): string {
  if (unix !== undefined) return `unix:${resolve(unix)}`
  if (port !== undefined) return `http://127.0.0.1:${port}`
  if (url !== undefined) return url
  throw new CommandError(
    'ERR_RINGBELL_INVALID_OPTION',
    'Say where it can be reached: --unix PATH, --port N or --url URL',
  )
}

/** What is wrong is told before the program runs, and not when it accepts connections. */
function checkFirst(name: string, options: AnnounceCommandOptions): void {
  checkName(name)
  checkResolve(options.endpoint, {})
  checkAnnounce(announcementOf(options))
}

function announcementOf(options: AnnounceCommandOptions): AnnounceOptions {
  const { endpoint, tags, health } = options
  return {
    endpoints: { [endpoint]: addressOf(options) },
    tags,
    health: health === undefined ? undefined : { interval: health },
  }
}

async function whileHere({ bus, out, signal }: Session, name: string, options: AnnounceCommandOptions): Promise<void> {
  const announced = await whenReady(bus, name, options, signal)
  out.note(`${name}: announced on ${placeOf(bus)}, Ctrl-C ends`)
  // An announcement keeps no process alive.
  const stay = setInterval(() => {}, LONGEST_MS)
  if (!signal.aborted) await once(signal, 'abort')
  clearInterval(stay)
  await announced.close()
}

async function whileItRuns(
  { bus, out, signal }: Session,
  name: string,
  words: readonly string[],
  options: AnnounceCommandOptions,
): Promise<number> {
  const address = addressOf(options)
  // What answers now is another program, and the command could not listen there.
  if (options.test && (await canConnect(address, { signal })))
    throw new CommandError('ERR_RINGBELL_REFUSED', `Another program listens on ${address} already; end it first`)
  // From here on signals are the command's.
  signal.throwIfAborted()
  const ended = new AbortController()
  const announcing = whenReady(bus, name, options, ended.signal)
  announcing.then(
    () => out.note(`${name}: announced on ${placeOf(bus)}`),
    () => {},
  )
  const failed = new Promise<Error>((tell) => {
    announcing.catch((error: Error) => {
      if (!ended.signal.aborted) tell(error)
    })
  })
  try {
    return await runGuarded(words, { RINGBELL_SERVICE: name, RINGBELL_ADDRESS: address }, failed)
  } finally {
    ended.abort()
    // It may have failed, which has been told.
    const announced = await announcing.catch(() => undefined)
    await announced?.close()
  }
}

/** Announces it as soon as it accepts connections. */
async function whenReady(
  bus: Bus,
  name: string,
  options: AnnounceCommandOptions,
  signal: AbortSignal,
): Promise<Announced> {
  const { test, timeout = Infinity } = options
  const address = addressOf(options)
  const end = performance.now() + timeout
  while (test && !(await canConnect(address, { signal }))) {
    if (performance.now() >= end)
      throw new RingbellError(
        'ERR_RINGBELL_TIMEOUT',
        `Nothing accepts connections on ${address} after ${duration(timeout * 1e6)}`,
      )
    await sleep(TEST_MS, undefined, { signal })
  }
  signal.throwIfAborted()
  return bus.announce(name, announcementOf(options))
}
