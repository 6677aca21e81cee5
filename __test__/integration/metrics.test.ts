/** The counters of endpoints as metrics of prom-client and as instruments of OpenTelemetry, both with the real packages. */
import { metrics as api } from '@opentelemetry/api'
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics'
import test from 'ava'
import { type OpenMetricsContentType, Registry } from 'prom-client'
import { openTelemetryMetrics, prometheusMetrics } from 'ringbell/metrics'
import { place } from '../helpers/place.js'

class Reader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

/** The value of each series. */
function seriesOf(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.replace(/ [^ ]*$/, ''), Number(line.replace(/^.* /, ''))]))
}

test('prometheus: every endpoint that is open now, with its totals', async (t) => {
  const bus = await place(t).bus()
  const register = new Registry()
  const metrics = prometheusMetrics(bus, { register })
  const publisher = await bus.publisher('ticks')
  const subscriber = await bus.subscriber('ticks')
  await publisher.attached()
  const again = await bus.publisher('ticks')
  for (let n = 0; n < 5; n++) publisher.send(new Uint8Array(8))
  await subscriber.receive()
  const server = await bus.serve<number, number>('double', { codec: 'json' }, (n) => 2 * n)
  const client = await bus.connect<number, number>('double', { codec: 'json' })
  t.is(await client.call(21), 42)
  const queue = await bus.queue('jobs', { codec: 'json' })
  const worker = await bus.worker('jobs', { codec: 'json' }, () => 'done')
  await queue.run('job')
  const state = await bus.state('limit', { codec: 'json' })
  state.set(1)
  const reader = await bus.watchState('limit', { codec: 'json' })
  const keyed = await bus.keyedState('table', { codec: 'json' })
  const keyedReader = await bus.watchKeyedState('table', { codec: 'json' })
  const member = await bus.join('group')
  await member.primary
  t.truthy([server, worker, reader, keyed, keyedReader])

  const text = await register.metrics()
  const series = seriesOf(text)
  const of = (name: string, service: string, number = 0): number | undefined =>
    series.get(`ringbell_${name}{name="${service}",number="${number}"}`)
  t.is(of('publisher_messages_total', 'ticks'), 5)
  t.is(of('publisher_sent_bytes_total', 'ticks'), 40)
  t.is(of('publisher_subscribers', 'ticks'), 1)
  t.is(of('publisher_messages_total', 'ticks', 1), 0)
  t.true((of('subscriber_received_total', 'ticks') ?? 0) >= 1)
  t.is(of('server_requests_total', 'double'), 1)
  t.is(of('client_calls_total', 'double'), 1)
  t.is(of('queue_acknowledged_total', 'jobs'), 1)
  t.is(of('worker_acknowledged_total', 'jobs'), 1)
  t.is(of('state_values_total', 'limit'), 1)
  t.not(of('state_values_total', 'table'), undefined)
  t.not(of('state_reader_writers', 'limit'), undefined)
  t.not(of('state_reader_writers', 'table'), undefined)
  t.is(of('member_primary', 'group'), 1)
  t.is(series.get('ringbell_unreadable_endpoints'), 0)
  t.true(text.includes('# TYPE ringbell_publisher_messages_total counter'))
  t.true(text.includes('# TYPE ringbell_publisher_backlog_bytes gauge'))

  // The number of a closed one is given to the next one.
  await publisher.close()
  await again.close()
  await bus.publisher('ticks')
  await new Promise((done) => setImmediate(done))
  const after = seriesOf(await register.metrics())
  t.is(after.get('ringbell_publisher_messages_total{name="ticks",number="0"}'), 0)
  t.is(after.get('ringbell_publisher_messages_total{name="ticks",number="1"}'), undefined)
  metrics.close()
  metrics.close()
  t.is((await register.metrics()).trim(), '')
})

test('prometheus: single endpoints, several buses, OpenMetrics', async (t) => {
  const [bus, other] = [await place(t).bus(), await place(t).bus()]
  const register = new Registry()
  const publisher = await bus.publisher('a')
  await bus.publisher('b')
  await other.publisher('a')
  const metrics = prometheusMetrics([publisher, other], { register })
  const names = (text: string): string[] => [...seriesOf(text).keys()].filter((one) => one.includes('_messages_total'))
  t.deepEqual(names(await register.metrics()), [
    'ringbell_publisher_messages_total{name="a",number="0"}',
    'ringbell_publisher_messages_total{name="a",number="1"}',
  ])
  t.throws(() => prometheusMetrics(bus, { register }), { message: /already been registered/ })
  metrics.close()
  const open = new Registry<OpenMetricsContentType>()
  open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const more = prometheusMetrics(bus, { register: open })
  const text = await open.metrics()
  t.is(names(text).length, 2)
  t.true(text.includes('# TYPE ringbell_publisher_messages counter'))
  more.close()
  t.is((await open.metrics()).trim(), '# EOF')
})

test('openTelemetry: the same figures as instruments, with units', async (t) => {
  const bus = await place(t).bus()
  const reader = new Reader()
  const provider = new MeterProvider({ readers: [reader] })
  t.teardown(() => provider.shutdown())
  const metrics = openTelemetryMetrics(bus, { meter: provider.getMeter('test') })
  const publisher = await bus.publisher('ticks', { overflow: 'drop-oldest' })
  publisher.send(new Uint8Array(8))
  const collect = async (): Promise<Map<string, { unit: string; values: [unknown, unknown][] }>> => {
    const { resourceMetrics, errors } = await reader.collect()
    t.deepEqual(errors, [])
    const all = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics)
    return new Map(
      all.map(({ descriptor: { name, unit }, dataPoints }) => [
        name,
        { unit, values: dataPoints.map(({ attributes, value }) => [attributes, value]) },
      ]),
    )
  }
  const attributes = { 'ringbell.name': 'ticks', 'ringbell.number': '0' }
  const found = await collect()
  t.deepEqual(found.get('ringbell.publisher.messages'), { unit: '{message}', values: [[attributes, 1]] })
  t.deepEqual(found.get('ringbell.publisher.sent'), { unit: 'By', values: [[attributes, 8]] })
  t.deepEqual(found.get('ringbell.unreadable_endpoints')?.values, [[{}, 0]])
  metrics.close()
  publisher.send(new Uint8Array(8))
  // The SDK goes on to tell the last value that it has seen.
  t.deepEqual((await collect()).get('ringbell.publisher.messages')?.values, [[attributes, 1]])
  t.notThrows(() => openTelemetryMetrics(bus, { meter: api.getMeter('none') }).close())
})

test('an endpoint that cannot be read does not hide the others', async (t) => {
  const bus = await place(t).bus()
  const register = new Registry()
  const [broken] = [await bus.publisher('broken'), await bus.publisher('whole')]
  prometheusMetrics(bus, { register })
  broken.stats = () => {
    throw new Error('no')
  }
  const series = seriesOf(await register.metrics())
  t.is(series.get('ringbell_unreadable_endpoints'), 1)
  t.is(series.get('ringbell_publisher_messages_total{name="whole",number="0"}'), 0)
  t.is(series.get('ringbell_publisher_messages_total{name="broken",number="0"}'), undefined)
})

test('an endpoint that is closed before the first look is counted, and does not hide the others', async (t) => {
  const bus = await place(t).bus()
  const register = new Registry()
  const sources = [await bus.publisher('whole')]
  prometheusMetrics(sources, { register })
  const [closed, server] = [await bus.publisher('closed'), await bus.serve('closed', async () => undefined)]
  await closed.close()
  await server.close()
  sources.push(closed, server as never)
  const series = seriesOf(await register.metrics())
  t.is(series.get('ringbell_unreadable_endpoints'), 2)
  t.is(series.get('ringbell_publisher_messages_total{name="whole",number="0"}'), 0)
})

test('wrong arguments', async (t) => {
  const bus = await place(t).bus()
  const code = 'ERR_RINGBELL_INVALID_OPTION'
  const register = new Registry()
  t.throws(() => prometheusMetrics(bus, {} as never), { code, message: /prom-client/ })
  t.throws(() => prometheusMetrics(bus, undefined as never), { code, message: /prom-client/ })
  t.throws(() => prometheusMetrics(bus, { register: {} as never }), { code })
  t.throws(() => openTelemetryMetrics(bus, {} as never), { code, message: /@opentelemetry\/api/ })
  t.throws(() => prometheusMetrics({} as never, { register }), { code })
  t.throws(() => prometheusMetrics([bus, 7] as never, { register }), { code })
  t.throws(() => prometheusMetrics(undefined as never, { register }), { code })
  t.deepEqual(await register.getMetricsAsJSON(), [])
})
