// restart-manager.mjs REPLICAS: keeps replicas of the group `bench` up, and restarts all of them for each line of its stdin.

import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Bus } from '../../index.js'
import { ServiceGroup } from '../../dist/supervise/index.js'

const bus = await Bus.open()
const group = new ServiceGroup(bus, {
  service: 'bench',
  command: process.execPath,
  args: [fileURLToPath(new URL('failover-member.mjs', import.meta.url))],
  replicas: Number(process.argv[2]),
  // Replicas end with their stdin.
  stdio: { stdin: 'pipe', stdout: 'ignore', stderr: 'inherit' },
})
await group.start()
console.log(JSON.stringify({ started: process.pid }))
for await (const _ of createInterface({ input: process.stdin })) {
  const begun = performance.now()
  await group.restart()
  console.log(JSON.stringify({ restarted: performance.now() - begun }))
}
process.exit()
