// What leaves a bus: a file that follows it, and metrics. One process announces and changes services and looks when its changes are in the
// file; another one exports; a third one has many endpoints and is scraped.

import { readFileSync, watch } from 'node:fs'
import path from 'node:path'
import { Registry } from 'prom-client'
import { Bus } from '../../index.js'
import { exportTo } from '../../dist/export/index.js'
import { prometheusMetrics } from '../../dist/metrics/index.js'

const now = () => Number(process.hrtime.bigint())

/** `entry` finds a service and its version in the file of each format. */
const ENTRIES = {
  prometheus: /"version":"(\d+)","number":"(\d+)"/g,
  json: /"metadata":\{"version":(\d+),"number":(\d+)\}/g,
}

export async function changer(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const announced = []
  for (let number = 0; number < job.count; number++) {
    const options = { endpoints: { http: `http://127.0.0.1:${1024 + number}` }, metadata: { version: 0, number } }
    announced.push(await bus.announce(`bench.export.s${number}`, options))
  }
  /** [version, number, when] of the changes that were not seen yet. */
  let pending = []
  const latencies = []
  let version = 0
  const look = (file, format) => {
    const versions = new Map()
    for (const [, seen, number] of readFileSync(file, 'utf8').matchAll(ENTRIES[format])) versions.set(+number, +seen)
    const at = now()
    pending = pending.filter(([wanted, number, when]) => {
      if (!(versions.get(number) >= wanted)) return true
      latencies.push(at - when)
      return false
    })
  }
  handlers.change = async ({ file, format, rate, ms }) => {
    latencies.length = 0
    const watching = watch(path.dirname(file), (_, name) => name === path.basename(file) && look(file, format))
    const end = performance.now() + ms
    // Not all at the same distance, so that no rhythm of the exporter is met.
    while (performance.now() < end) {
      const number = version % job.count
      const when = now()
      announced[number].update({ version: ++version, number })
      pending.push([version, number, when])
      await new Promise((done) => setTimeout(done, (1000 / rate) * (0.5 + Math.random())))
    }
    while (pending.length > 0) {
      await new Promise((done) => setTimeout(done, 10))
      look(file, format)
    }
    watching.close()
    tell({ type: 'changed', latencies })
  }
}

export async function exporter(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  let exporting
  let changes = 0
  handlers.export = async ({ file, format }) => {
    exporting = await exportTo(bus, { format, file, onChange: () => void changes++ })
    tell({ type: 'exported' })
  }
  handlers.usage = () => {
    const { user, system } = process.cpuUsage()
    tell({ type: 'usage', cpuMicros: user + system, at: performance.now(), changes })
  }
  handlers.end = async () => {
    await exporting.close()
    tell({ type: 'ended' })
  }
}

/** A quarter of each kind; every client is connected to one server. */
export async function scraped(job, { handlers, tell }) {
  const bus = await Bus.open({ path: job.bus })
  const register = new Registry()
  prometheusMetrics(bus, { register })
  const some = job.count / 4
  for (let n = 0; n < some; n++) {
    await bus.publisher(`bench.topic.t${n}`, { capacity: 4096, overflow: 'drop-oldest' })
    const subscriber = await bus.subscriber(`bench.topic.t${n}`)
    await bus.serve(`bench.call.c${n}`, { capacity: 4096 }, (request) => request)
    const client = await bus.connect(`bench.call.c${n}`, { sendCapacity: 4096, receiveCapacity: 4096 })
    await subscriber.attached()
    await client.call(new Uint8Array(1))
  }
  handlers.scrape = async ({ count }) => {
    const milliseconds = new Float64Array(count)
    let bytes = 0
    for (let n = 0; n < count; n++) {
      const begun = performance.now()
      bytes = (await register.metrics()).length
      milliseconds[n] = performance.now() - begun
      await new Promise((done) => setTimeout(done, 10))
    }
    tell({ type: 'scraped', milliseconds: [...milliseconds], bytes })
  }
}
