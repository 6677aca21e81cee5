// ringbell's calls, Node to Node. A variant is how both sides wait: `adaptive`, `spin` or `sleep`.

import { Bus } from '../../index.js'

const NAME = 'bench.calls'
let bus

async function open(job) {
  bus ??= await Bus.open({ path: job.bus ?? job.address })
}

export async function serve(job, answer) {
  await open(job)
  const options = { wait: job.variant, maxConnections: 4096, ...(job.capacity && { capacity: job.capacity }) }
  await bus.serve(NAME, options, async (request) => answer(request))
}

export async function connect(job) {
  await open(job)
  const client = await bus.connect(NAME, { wait: job.variant })
  return { call: (request, into) => client.call(request, into && { into }) }
}
