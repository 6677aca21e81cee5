/** `ringbell bench`: measures this machine in a few seconds, between two processes. Rivals and charts are in benches/. */
import { availableParallelism, cpus, release } from 'node:os'
import { Command, Option } from 'commander'
import { runPair } from '../bench/pair.js'
import { twoCpus } from '../bench/pinning.js'
import { LEAST_SIZE, type RoundTrips, type Task, type Throughput } from '../bench/tasks.js'
import { invalidArgument } from '../exit-codes.js'
import { bandwidth, count, duration, DURATIONS, parseDuration, parseSize, perSecond, size } from '../figures.js'
import type { Output } from '../output.js'
import { type GlobalOptions, run } from '../session.js'

interface BenchOptions {
  size: number
  duration: number
  pin: boolean
}

const LARGEST_SIZE = 256 * 1024

const MEASUREMENTS: readonly { name: string; task: Task }[] = [
  { name: 'one way, send() → owned batches', task: { kind: 'throughput', sending: 'send', lifetime: 'owned' } },
  {
    name: 'one way, batch writer → borrowed batches',
    task: { kind: 'throughput', sending: 'batch', lifetime: 'borrowed' },
  },
  { name: 'there and back, adaptive waiting', task: { kind: 'round trip', wait: 'adaptive' } },
  { name: 'there and back, asleep', task: { kind: 'round trip', wait: 'sleep' } },
]

export function bench(): Command {
  return new Command('bench')
    .summary('measure this machine in a few seconds')
    .description(
      'Measures throughput and round trips between two processes on a private bus. Each is pinned to a CPU if there is taskset.',
    )
    .option('-s, --size <size>', 'bytes of each message', messageSize, 256)
    .addOption(
      new Option('-d, --duration <duration>', `duration of each of the four measurements ${DURATIONS}`)
        .argParser(parseDuration)
        .default(1000, '1s'),
    )
    .option('--no-pin', 'let the scheduler choose the CPUs')
    .action((options: BenchOptions, command: Command) => {
      const { json = false } = command.optsWithGlobals<GlobalOptions>()
      return run(json, (out, signal) => measureAll(out, signal, options))
    })
}

async function measureAll(out: Output, signal: AbortSignal, options: BenchOptions): Promise<void> {
  const width = Math.max(...MEASUREMENTS.map(({ name }) => name.length))
  const pins = options.pin ? twoCpus() : undefined
  const machine = {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: availableParallelism(),
    kernel: release(),
    node: process.version,
    pinnedTo: pins ?? null,
  }
  if (!out.json) {
    await out.line(
      out.paint('dim', `${machine.cpu}, ${machine.cpus} CPUs, Linux ${machine.kernel}, Node ${machine.node}`),
    )
    const where = pins === undefined ? 'that are not pinned' : `pinned to CPUs ${pins.join(' and ')}`
    await out.line(out.paint('dim', `messages of ${size(options.size)}, a ring of 1 MiB, two processes ${where}`))
  }
  const results: object[] = []
  for (const { name, task } of MEASUREMENTS) {
    const result = await runPair(task, options.size, options.duration, pins, signal)
    if (out.json) results.push({ name, ...task, size: options.size, ...result })
    else await out.line(`${name.padEnd(width)}  ${figures(result)}`)
  }
  if (out.json) await out.write(`${JSON.stringify({ machine, results }, undefined, 2)}\n`)
}

function figures(result: Throughput | RoundTrips): string {
  if ('rounds' in result)
    return `p50 ${duration(result.p50)}, p99 ${duration(result.p99)}  (${count(result.rounds)} rounds)`
  const { messages, bytes, seconds } = result
  return `${perSecond(messages / seconds).replace('/s', ' messages/s')}, ${bandwidth(bytes / seconds)}`
}

function messageSize(text: string): number {
  const bytes = parseSize(text)
  if (bytes < LEAST_SIZE || bytes > LARGEST_SIZE)
    throw invalidArgument(`It is from ${LEAST_SIZE} bytes to ${size(LARGEST_SIZE)}.`)
  return bytes
}
