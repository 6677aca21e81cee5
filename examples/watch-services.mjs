/**
 * Who is on the bus: announce anything under a name, and follow who comes, changes and goes. Events are in order, and first
 * come those who are there already. Run: node examples/watch-services.mjs
 */
import { Bus } from 'ringbell'

const bus = await Bus.open()

const events = bus.services.watch({ filter: 'example.*' })
const api = await bus.announce('example.api', {
  endpoints: { http: 'unix:/run/example-api.sock' },
  metadata: { status: 'starting' },
})
const { endpoints } = await bus.services.waitFor('example.api', { timeout: 2000 })
console.log(`example.api is to be found at ${endpoints.http}`)

for await (const { type, service } of events) {
  console.log(`${type.padEnd(7)} ${service.name} (pid ${service.pid}): ${service.metadata.status}`)
  if (type === 'added') api.update({ status: 'ready' })
  if (type === 'updated') await api.close()
  if (type === 'removed') break
}
await bus.close()
