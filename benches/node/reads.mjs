// Reading one value of 64 bytes that another process updates: the loop of every reader in Node, so that ringbell's states and
// their rivals are read, checked and counted alike. A value carries the number of its update (harness/payload.mjs).

import { numberOf } from '../harness/payload.mjs'
import { turn } from './turn.mjs'

export const SIZE = 64
/** Reads between two looks at the clock, and two turns of the event loop: some readers renew what they see in each turn. */
const BLOCK = 1000

/** The number of a value, which must not be older than `last`. */
function later(value, last) {
  const number = numberOf(value, SIZE)
  if (number < last) throw new Error(number < 0 ? 'a value is damaged' : 'a value went back')
  return number
}

/** Reads `count` times in a row; `get` answers a value. Gives the number of the last one. */
function inRow(get) {
  return (count, last) => {
    for (let i = 0; i < count; i++) last = later(get(), last)
    return last
  }
}

/** The same for a `get` that answers a promise. */
function awaited(get) {
  return async (count, last) => {
    for (let i = 0; i < count; i++) last = later(await get(), last)
    return last
  }
}

/** Answers the harness: for `read`, the time of a read within a window. A `get` by promise reads one value at a time. */
export function answerReads({ handlers, tell, cpuMicros }, get, { promise = false } = {}) {
  const read = promise ? awaited(get) : inRow(get)
  const block = promise ? 10 : BLOCK
  let last = 0
  const run = async (ms) => {
    const [begun, from, cpu] = [performance.now(), last, cpuMicros()]
    let reads = 0
    while (performance.now() - begun < ms) {
      last = await read(block, last)
      reads += block
      await turn()
    }
    const nanoseconds = (performance.now() - begun) * 1e6
    return {
      nsPerRead: nanoseconds / reads,
      // What a read takes of a processor: on a loaded machine this process has only a part of one.
      cpuNsPerRead: ((cpuMicros() - cpu) * 1000) / reads,
      updatesPerSecond: ((last - from) * 1e9) / nanoseconds,
    }
  }
  handlers.read = async ({ warm, ms }) => {
    await run(warm)
    tell({ type: 'read', ...(await run(ms)) })
  }
}
