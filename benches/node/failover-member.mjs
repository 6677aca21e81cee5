// A replica: a member of the group `bench` that answers calls with its pid and epoch.

import { Bus } from '../../index.js'

const bus = await Bus.open()
const member = await bus.join('bench')
await bus.serve('bench', { codec: 'json', member }, ({ number }) => ({ number, pid: process.pid, epoch: member.epoch }))
// It does not outlive the one that started it.
process.stdin.resume().once('end', () => process.exit())
console.log(JSON.stringify({ ready: process.pid }))
