// ringbell's calls, Node to Node. A variant is how both sides wait: `adaptive`, `spin` or `sleep`.

import { Bus } from '../../index.js'

const NAME = 'bench.calls'
let bus

async function options(job) {
  bus ??= await Bus.open({ path: job.bus ?? job.address })
  return { wait: job.variant, ...(job.capacity && { capacity: job.capacity }) }
}

export async function serve(job, answer) {
  const chosen = await options(job)
  await bus.serve(NAME, { ...chosen, maxConnections: 4096, allowDirect: true }, async (request) => answer(request))
}

export async function connect(job) {
  const chosen = await options(job)
  const client = await bus.connect(NAME, chosen)
  return { call: (request, into) => client.call(request, into && { into }) }
}
