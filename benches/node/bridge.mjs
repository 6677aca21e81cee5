// ringbell through two bridges and NATS: as in ringbell.mjs and ringbell-calls.mjs, with a bus for each side.

import * as topics from './ringbell.mjs'
import * as channels from './ringbell-calls.mjs'

const [FIRST, SECOND] = [0, 1]
const on = (job, side) => ({ ...job, address: job.buses[side], bus: job.buses[side] })

export const sender = (job) => topics.sender(on(job, FIRST))
export const receiver = (job, check) => topics.receiver(on(job, SECOND), check)
export const serve = (job, answer) => channels.serve(on(job, FIRST), answer)
export const connect = (job) => channels.connect(on(job, SECOND))
