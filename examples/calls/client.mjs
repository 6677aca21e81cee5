/** Calls the service of server.mjs, wherever it runs. Run: node examples/calls/client.mjs */
import { Bus } from 'ringbell'

const bus = await Bus.open()
const maths = await bus.connect('example.maths', { codec: 'json', timeout: 5000 })

console.log('the sum is', await maths.call({ what: 'sum', numbers: [20, 22] }))

const many = await Promise.all(Array.from({ length: 1000 }, (_, n) => maths.call({ what: 'sum', numbers: [n, n] })))
console.log(many.length, 'calls at once, the last one says', many.at(-1))

for await (const n of maths.stream({ what: 'countdown', from: 3 })) console.log('counting down:', n)

try {
  await maths.call({ what: 'root' })
} catch (error) {
  console.log(`an error keeps its code: ${error.code}, ${error.message}`)
}

// Harmless to do twice: if its server dies, another one is asked.
console.log('and again', await maths.call({ what: 'sum', numbers: [1] }, { idempotent: true, timeout: 1000 }))
await bus.close()
