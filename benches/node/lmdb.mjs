// The rival lmdb-js (npm: lmdb): a value in a memory-mapped file, without fsync. The writer puts a thousand values, waits for
// their commit, and goes on, not faster than `rate`. The reader calls `get`, which answers from a read transaction that lmdb-js
// renews in each turn of the event loop; the variant `newest` renews it before each `get`, as a reader of the newest value must.

import path from 'node:path'
import { open } from 'lmdb'
import { stamp, template } from '../harness/payload.mjs'
import { answerReads, SIZE } from './reads.mjs'
import { turn } from './turn.mjs'

const KEY = 'value'
const BATCH = 1000

const database = (job) => open({ path: path.join(job.bus, 'lmdb'), encoding: 'binary', noSync: true })

export async function writer(job) {
  const values = database(job)
  let number = 0
  const put = () => {
    // Each value is a buffer of its own: it is read when its transaction is written.
    const value = Buffer.from(template(SIZE))
    stamp(value, 0, SIZE, number++)
    return values.put(KEY, value)
  }
  await put()
  const run = async () => {
    const begun = performance.now()
    for (;;) {
      let written
      for (let i = 0; i < BATCH; i++) written = put()
      await written
      while (((performance.now() - begun) / 1000) * job.rate < number) await turn()
    }
  }
  void run()
}

export async function reader(job, tools) {
  const values = database(job)
  const get = () => values.get(KEY)
  const newest = () => {
    values.resetReadTxn()
    return values.get(KEY)
  }
  answerReads(tools, job.variant === 'newest' ? newest : get)
}
