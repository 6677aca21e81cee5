import test from 'ava'
import { SLICE_MS, TimeSlice } from '../../../src/wait/time-slice.js'

function busy(milliseconds: number): void {
  const until = performance.now() + milliseconds
  while (performance.now() < until);
}

test('a turn is used up by time, not by messages', (t) => {
  const turn = new TimeSlice()
  const start = performance.now()
  turn.begin()
  let messages = 0
  while (!turn.due()) messages++
  t.true(performance.now() - start >= SLICE_MS)
  t.true(turn.spent)
  t.true(messages > 1)
  turn.begin()
  t.false(turn.spent)
})

test('slow messages are noticed one by one', (t) => {
  const turn = new TimeSlice()
  turn.begin()
  while (!turn.due());
  // It has learned to look seldom; now each message takes half a turn.
  const delivered: number[] = []
  for (let round = 0; round < 8; round++) {
    turn.begin()
    let messages = 0
    do {
      busy(SLICE_MS / 2)
      messages++
    } while (!turn.due())
    delivered.push(messages)
  }
  t.true((delivered.at(-1) ?? Infinity) <= 4, delivered.join())
})
