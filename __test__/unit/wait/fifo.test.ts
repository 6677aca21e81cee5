import test from 'ava'
import { Fifo } from '../../../src/wait/fifo.js'

test('first in, first out, whatever the number', (t) => {
  const queue = new Fifo<number>()
  let taken = 0
  for (let added = 0; added < 10_000; added++) {
    queue.push(added)
    if (added % 3 > 0) t.is(queue.shift(), taken++)
  }
  t.is(queue.size, 10_000 - taken)
  t.is(queue.peek(), taken)
  for (; taken < 10_000; taken++) if (queue.shift() !== taken) t.fail(String(taken))
  t.is(queue.size, 0)
  t.is(queue.peek(), undefined)
  t.is(queue.shift(), undefined)
})

test('one in the middle can be taken out, and the others keep their order', (t) => {
  const queue = new Fifo<string>()
  for (const item of 'abcde') queue.push(item)
  queue.shift()
  t.is(
    queue.take((item) => item === 'd'),
    'd',
  )
  t.is(
    queue.take((item) => item === 'a'),
    undefined,
    'it was taken before',
  )
  t.is(
    queue.take((item) => item === 'b'),
    'b',
  )
  t.deepEqual([...queue], ['c', 'e'])
  queue.clear()
  t.deepEqual([...queue], [])
})
