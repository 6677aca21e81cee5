/** `ringbell resolve <name> [endpoint]`: prints where a service can be reached, for scripts. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command } from 'commander'
import type { Endpoint, Target } from '../../index.js'
import { DURATIONS, parseDuration } from '../figures.js'
import { withExamples } from '../manual.js'
import { runSession, type Session } from '../session.js'

interface ResolveCommandOptions {
  all?: boolean
  timeout?: number
}

/** Milliseconds between two looks. An event would not say that the view, which answers, has heard of it as well. */
const LOOK_MS = 20

export function resolve(): Command {
  const command = new Command('resolve')
    .summary('print where a service can be reached')
    .description(
      'Prints where an endpoint of a service can be reached: the path of a Unix socket, or HOST:PORT. Of several instances it is the one that ' +
        'has been there longest, of those whose health check passes. With --json it is an object, with the address as it was announced.',
    )
    .argument('<service>', 'service name')
    .argument('[endpoint]', 'name of the endpoint', 'http')
    .option('--all', 'every instance, a line for each; also those whose health check fails')
    .option(
      '-t, --timeout <duration>',
      `wait this long for one that can be chosen (exit code 3) ${DURATIONS}`,
      parseDuration,
    )
  return withExamples(command, [
    'curl --unix-socket "$(ringbell resolve api)" http://api/',
    'ringbell resolve api http --all --json',
  ]).action((name: string, endpoint: string, options: ResolveCommandOptions, self: Command) => {
    const { timeout } = options
    return runSession(
      self,
      timeout === undefined ? 'fail' : 'wait',
      (session) => print(session, name, endpoint, options),
      timeout,
    )
  })
}

async function print(
  { bus, out, signal, began }: Session,
  name: string,
  endpoint: string,
  { all = false, timeout }: ResolveCommandOptions,
): Promise<void> {
  const look = (): Endpoint[] => {
    const there = bus.endpoints(name, endpoint)
    return all ? there : there.filter(({ healthy, target }) => healthy && target !== undefined).slice(0, 1)
  }
  const end = began + (timeout ?? 0)
  let found = look()
  while (found.length === 0) {
    // After the last look it fails, and says why there is none. If one has come meanwhile, it is there at the next look.
    if (performance.now() >= end) bus.resolve(name, endpoint)
    else await sleep(LOOK_MS, undefined, { signal })
    found = look()
  }
  for (const one of found) await (out.json ? out.value(described(one)) : out.line(text(reached(one)) ?? one.address))
}

/** A path that is good for other processes, too: `target` of a long one goes through a descriptor of this process. */
function reached({ address, target }: Endpoint): Target | undefined {
  if (target === undefined || !('socketPath' in target)) return target
  return { socketPath: address.replace(/^unix:/, '') }
}

function text(target: Target | undefined): string | undefined {
  if (target === undefined || 'socketPath' in target) return target?.socketPath
  return `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`
}

function described(one: Endpoint): object {
  const { service, endpoint, address, healthy } = one
  const { name, id, pid } = service
  return { name, id, pid, endpoint, address, ...reached(one), healthy }
}
