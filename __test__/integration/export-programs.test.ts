/**
 * The real nginx and the real Prometheus, with the files that are exported for them. Requests keep flowing through nginx while instances are
 * killed and started; Prometheus finds targets and scrapes the metrics of this process.
 */
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, get, type IncomingMessage, type RequestOptions } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Registry } from 'prom-client'
import { command, exportTo } from 'ringbell/export'
import { prometheusMetrics } from 'ringbell/metrics'
import { onPath } from '../../scripts/project.mjs'
import { Child } from '../helpers/child.js'
import { type Peer, peer } from '../helpers/peer.js'
import { place, until } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

/** nginx is in a folder that users do not have on their PATH. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin`

function having(program: string, title: string, body: (t: ExecutionContext) => Promise<void>): void {
  const there = onPath(program, PATH)
  if (!there) console.error(`*** NOT TESTED, because ${program} is missing: ${title} ***`)
  const testOrSkip = there ? test : test.skip
  testOrSkip(title, body)
}

interface Answer {
  status: number
  body: string
}

async function answerOf(from: RequestOptions): Promise<Answer> {
  const request = get(from)
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode ?? 0, body }
}

having('nginx', 'requests keep flowing through nginx while instances are killed and started', async (t) => {
  const [here, files] = [place(t, { untidy: true }), folder(t)]
  const front = join(files, 'front.sock')
  const config = join(files, 'nginx.conf')
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  writeFileSync(
    config,
    `daemon off; ${user} worker_processes 1; pid ${files}/nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${files}/${name};`).join(' ')}
  include ${files}/upstreams.conf;
  server { listen unix:${front}; location / { proxy_pass http://web; } }
}
`,
  )
  const bus = await here.bus()
  const errors: string[] = []
  const nginx = ['-p', files, '-e', 'stderr', '-c', config]
  const reload = `PATH='${PATH}' nginx ${nginx.join(' ')} -s reload`
  let running: Child | undefined
  const exporter = await exportTo(bus, {
    format: 'nginx',
    services: 'web',
    file: join(files, 'upstreams.conf'),
    onChange: (change) => running && command(reload, { output: (line) => errors.push(line) })(change),
    onError: (error) => errors.push(error.message),
  })
  const child = new Child('nginx', nginx, { env: { PATH } })
  running = child
  t.teardown(async () => {
    // By SIGKILL its workers would stay.
    child.kill('SIGTERM')
    await child.end
  })
  const ask = (): Promise<Answer> => answerOf({ socketPath: front, path: '/', agent: false })
  // There is no instance yet.
  await until(async () => (await ask().catch(() => undefined))?.status === 502)

  let number = 0
  const start = async (): Promise<Peer> => {
    const instance = peer(here, 'http-instance.mjs', ['web', number++ % 2 === 0 ? join(files, `${number}.sock`) : 0])
    await instance.tells('announced')
    return instance
  }
  /** Asks until that process has answered. Once the first one has, every request must be answered. */
  const wrong: Answer[] = []
  const reaches = async ({ pid }: Peer): Promise<void> =>
    void (await until(async () => {
      const answer = await ask()
      if (answer.status !== 200) wrong.push(answer)
      return answer.body === String(pid)
    }))
  const first = await start()
  await until(async () => (await ask()).body === String(first.pid))
  const second = await start()
  await reaches(second)
  // A worker of an earlier configuration may take a request until it has heard that it is to end.
  const workers = `/proc/${child.pid}/task/${child.pid}/children`
  const reloaded = (): boolean => readFileSync(workers, 'utf8').trim().split(' ').length === 1
  for (let alive = [first, second], round = 0; round < 3; round++) {
    const [oldest, other] = alive as [Peer, Peer]
    await until(reloaded)
    oldest.kill()
    await reaches(other)
    await oldest.end
    const next = await start()
    await reaches(next)
    alive = [other, next]
  }
  t.deepEqual(wrong, [])
  t.deepEqual(
    errors.filter((line) => !/signal process started|\[notice\]/.test(line)),
    [],
  )
  await exporter.close()
})

having('prometheus', 'Prometheus finds a target and scrapes it', async (t) => {
  const [here, files] = [place(t, { untidy: true }), folder(t)]
  const [bus, other] = [await here.bus(), await here.bus()]
  const register = new Registry()
  prometheusMetrics(bus, { register })
  const publisher = await bus.publisher('readings', { overflow: 'drop-oldest' })
  for (let n = 0; n < 3; n++) publisher.send(new Uint8Array(10))

  const server = createServer((_, response) => {
    void register.metrics().then((text) => response.setHeader('content-type', register.contentType).end(text))
  })
  t.teardown(() => server.close().closeAllConnections())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const own = (free.address() as AddressInfo).port
  await once(free.close(), 'close')

  mkdirSync(join(files, 'targets'))
  const exporter = await exportTo(bus, { format: 'prometheus', file: join(files, 'targets', 'ringbell.json') })
  const config = join(files, 'prometheus.yml')
  writeFileSync(
    config,
    `global: { scrape_interval: 1s }
scrape_configs:
  - job_name: ringbell
    file_sd_configs: [{ files: ['${files}/targets/*.json'] }]
    relabel_configs: [{ source_labels: [__meta_ringbell_kind], target_label: kind }]
`,
  )
  const prometheus = new Child('prometheus', [
    `--config.file=${config}`,
    `--storage.tsdb.path=${files}/data`,
    `--web.listen-address=127.0.0.1:${own}`,
  ])
  t.teardown(() => prometheus.ended())
  interface Result {
    data: { result: { metric: Record<string, string>; value: [number, string] }[] }
  }
  const query = async (what: string): Promise<Result['data']['result']> => {
    const path = `/api/v1/query?query=${encodeURIComponent(what)}`
    const answer = await answerOf({ host: '127.0.0.1', port: own, path }).catch(() => undefined)
    return answer?.status === 200 ? (JSON.parse(answer.body) as Result).data.result : []
  }
  // It comes while Prometheus runs, and is found through the file alone.
  await until(async () => (await query('vector(1)')).length === 1)
  const announced = await other.announce('app', {
    endpoints: { metrics: `http://127.0.0.1:${port}/metrics` },
    metadata: { zone: 'a' },
  })
  const [found] = await until(async () => {
    const result = await query('ringbell_publisher_messages_total')
    return result.length > 0 && result
  })
  t.is(found?.value[1], '3')
  t.like(found?.metric, { service: 'app', name: 'readings', number: '0', zone: 'a', kind: 'service' })
  t.is((await query('ringbell_publisher_sent_bytes_total'))[0]?.value[1], '30')
  await announced.close()
  await until(async () => (await query('up')).length === 0)
  await exporter.close()
})
