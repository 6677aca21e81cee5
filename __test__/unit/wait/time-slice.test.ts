import test from 'ava'
import { SLICE_MS, TimeSlice } from '../../../src/wait/time-slice.js'

/** A time slice with a clock that tests move. */
function scene() {
  const clock = { time: 1000 }
  return { clock, turn: new TimeSlice(() => clock.time) }
}

test('a turn is used up by time, not by messages', (t) => {
  const { clock, turn } = scene()
  turn.begin()
  for (let messages = 0; messages < 10_000; messages++) t.false(turn.due())
  clock.time += SLICE_MS
  let messages = 0
  while (!turn.due()) messages++
  t.true(messages < 256, 'it reads the clock now and then')
  t.true(turn.spent)
  turn.begin()
  t.false(turn.spent)
  t.false(turn.due())
})

test('slow messages are noticed one by one', (t) => {
  const { clock, turn } = scene()
  turn.begin()
  for (let messages = 0; messages < 10_000; messages++) turn.due()
  // It has learned to look seldom; now each message takes half a turn.
  const delivered: number[] = []
  for (let round = 0; round < 8; round++) {
    turn.begin()
    let messages = 0
    do {
      clock.time += SLICE_MS / 2
      messages++
    } while (!turn.due())
    delivered.push(messages)
  }
  t.is(delivered.at(-1), 2, delivered.join())
})
