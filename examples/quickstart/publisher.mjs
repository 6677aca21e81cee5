import { setTimeout } from 'node:timers/promises'
import { Bus } from 'ringbell'

const bus = await Bus.open()
const ticks = await bus.publisher('ticks')
for (let n = 1; ; n++) {
  while (!ticks.send(Buffer.from(`tick ${n}`))) await ticks.ready()
  await setTimeout(500)
}
