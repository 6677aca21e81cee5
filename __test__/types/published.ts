// Compiled, never run: what any TypeScript from 5.0 on must make of the published types, with and without `skipLibCheck`, and
// without `Symbol.asyncDispose` in its lib. Nothing may silently be `any`. Only syntax that 5.0 knows; the rest is in api.ts.
import type { Batch, Bus, Client, Connection, Message, Server, ServiceEvent, StandardSchema } from 'ringbell'
import { command, type ExportChange, type Exporter, exportTo, type render } from 'ringbell/export'
import {
  type Metrics,
  type MetricsMeter,
  type MetricsRegister,
  openTelemetryMetrics,
  prometheusMetrics,
} from 'ringbell/metrics'
import {
  type ExitStatus,
  type GroupInstance,
  type LogLine,
  type RemoteManager,
  ServiceGroup,
  spawn,
} from 'ringbell/supervise'

type IsAny<T> = 0 extends 1 & T ? true : false
type Same<A, B> = IsAny<A> extends IsAny<B> ? ([A] extends [B] ? ([B] extends [A] ? true : false) : false) : false
const same = <A, B>(yes: Same<A, B>): void => void yes

interface Tick {
  n: number
}
interface Given {
  n?: number
}

export async function iterating(bus: Bus, connection: Connection<Tick>): Promise<void> {
  const subscriber = await bus.subscriber<Tick>('ticks', { codec: 'json' })
  for await (const message of subscriber) {
    same<typeof message, Message<Tick>>(true)
    same<typeof message.value, Tick>(true)
  }
  for await (const message of subscriber.messages()) same<typeof message, Message<Tick>>(true)
  for await (const batch of subscriber.batches()) {
    same<typeof batch, Batch<Tick>>(true)
    for (const message of batch) same<typeof message, Message<Tick>>(true)
  }
  for await (const event of bus.services.watch()) same<typeof event, ServiceEvent>(true)
  for await (const message of connection) same<typeof message, Tick>(true)
  const client = await bus.connect<Tick, string>('typed', { codec: 'json' })
  for await (const piece of client.stream({ n: 1 })) same<typeof piece, string>(true)

  const result = await subscriber.messages().next()
  same<typeof result.value, Message<Tick> | undefined>(true)
  if (result.done !== true) same<typeof result.value, Message<Tick>>(true)
  await subscriber.messages().return()

  // What takes iterables takes them.
  const iterable: AsyncIterable<Message<Tick>> = subscriber
  const iterator: AsyncIterableIterator<Message<Tick>> = subscriber.messages()
  async function* all(): AsyncGenerator<Message<Tick>, void, undefined> {
    yield* subscriber
    yield* subscriber.messages()
  }
  void [iterable, iterator, all]
}

export async function disposing(bus: Bus): Promise<void> {
  same<ReturnType<(typeof bus)[typeof Symbol.asyncDispose]>, Promise<void>>(true)
  const subscriber = await bus.subscriber('ticks')
  same<ReturnType<(typeof subscriber)[typeof Symbol.asyncDispose]>, Promise<void>>(true)
  const batch = (await bus.publisher('ticks')).batch()
  same<ReturnType<(typeof batch)[typeof Symbol.dispose]>, void>(true)
}

export async function hearing(bus: Bus): Promise<void> {
  const server = await bus.serve<Tick, Tick>('typed', { codec: 'json' })
  same<typeof server, Server<Tick>>(true)
  server.on('connected', (connection) => same<typeof connection, Connection<Tick>>(true))
  const subscriber = await bus.subscriber('ticks')
  subscriber.on('missed', (publisher, messages) => {
    same<typeof messages, number>(true)
    same<typeof publisher.service.id, string>(true)
  })
}

export async function checking(bus: Bus, schema: StandardSchema<Given, Tick>): Promise<void> {
  const publisher = await bus.publisher('ticks', { codec: 'json', schema })
  same<Parameters<typeof publisher.send>[0], Given>(true)
  const subscriber = await bus.subscriber('ticks', { codec: 'json', schema })
  same<Awaited<ReturnType<typeof subscriber.receive>>, Message<Tick>>(true)
  const client = await bus.connect('typed', { codec: 'json', requests: schema, replies: schema, messages: schema })
  same<typeof client, Client<Given, Tick, Tick, Given>>(true)
}

export async function supervising(bus: Bus, manager: RemoteManager): Promise<void> {
  const child = await spawn('sleep', ['1'], {
    tied: 'tree',
    stdio: { stderr: (line) => same<typeof line, string>(true) },
  })
  const status = await child.shutdown()
  same<typeof status, ExitStatus>(true)
  const group = new ServiceGroup(bus, { service: 'price', command: 'node', replicas: 3 })
  group.on('primary', (instance) => same<typeof instance, GroupInstance>(true))
  group.on('exit', (_, ended) => same<typeof ended, ExitStatus>(true))
  for await (const line of manager.logs()) same<typeof line, LogLine>(true)
}

export async function exporting(bus: Bus, register: MetricsRegister, meter: MetricsMeter): Promise<void> {
  same<ReturnType<typeof render>, string>(true)
  const exporter = await exportTo(bus, { format: 'nginx', file: 'x', onChange: command('nginx -s reload') })
  same<typeof exporter, Exporter>(true)
  await exportTo(bus, { format: 'json', onChange: (change) => same<typeof change, ExportChange>(true) })
  const metrics = prometheusMetrics([bus, await bus.publisher('ticks')], { register })
  same<typeof metrics, Metrics>(true)
  same<ReturnType<typeof openTelemetryMetrics>, Metrics>(true)
  openTelemetryMetrics(bus, { meter }).close()
}
