/** `ringbell watch`: prints services that come, change and go, and first those that are there. */
import { Command } from 'commander'
import { AbortError, RingbellError, type ServiceEvent } from '../../index.js'
import { clock, duration, DURATIONS, parseCount, parseDuration } from '../figures.js'
import { IdleTimer } from '../idle-timer.js'
import type { Paint, Style } from '../paint.js'
import { placeOf, runSession, type Session } from '../session.js'
import { description } from './ls.js'

interface WatchCommandOptions {
  count?: number
  timeout?: number
}

export function watch(): Command {
  return new Command('watch')
    .summary('follow services as they come and go')
    .description('Prints one event per line: added (also for services that are there already), updated, removed.')
    .argument('[services]', 'a service name, or a pattern such as sensors.*')
    .option('-n, --count <n>', 'end after this many events', parseCount)
    .option(
      '-t, --timeout <duration>',
      `give up if nothing happens for this long (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
    .action((filter: string | undefined, options: WatchCommandOptions, command: Command) =>
      runSession(command, 'wait', (session) => follow(session, filter, options), options.timeout),
    )
}

async function follow(
  { bus, out, signal }: Session,
  filter: string | undefined,
  options: WatchCommandOptions,
): Promise<void> {
  const over = new AbortController()
  const idle = new IdleTimer(options.timeout, () => over.abort())
  let left = options.count ?? Infinity
  out.note(`watching ${placeOf(bus)}`)
  try {
    for await (const event of bus.services.watch({ filter, signal: AbortSignal.any([signal, over.signal]) })) {
      idle.start()
      await (out.json
        ? out.value({ type: event.type, at: new Date(), service: description(event.service) })
        : out.line(line(event, out.paint)))
      if (--left === 0) return
    }
  } catch (error) {
    if (!(error instanceof AbortError) || !idle.elapsed) throw error
    throw new RingbellError('ERR_RINGBELL_TIMEOUT', `Nothing happened for ${duration((options.timeout ?? 0) * 1e6)}`)
  } finally {
    idle.stop()
  }
}

const STYLES: Readonly<Record<ServiceEvent['type'], Style>> = { added: 'green', updated: 'cyan', removed: 'red' }

function line({ type, service }: ServiceEvent, paint: Paint): string {
  const { name, id, kind, pid, metadata } = service
  const more = Object.keys(metadata).length === 0 ? '' : `  ${JSON.stringify(metadata)}`
  return `${paint('dim', clock(new Date()))}  ${paint(STYLES[type], type.padEnd(7))}  ${name}@${id}  ${kind}  pid ${pid}${more}`
}
