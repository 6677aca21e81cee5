import { getEventListeners } from 'node:events'
import test from 'ava'
import type { AbortError } from 'ringbell'
import { onAbort, throwIfAborted } from '../../../src/wait/abort.js'

test("an aborted wait looks like Node's own", (t) => {
  const reason = new Error('enough')
  const error = t.throws(() => throwIfAborted(AbortSignal.abort(reason)), { name: 'AbortError', code: 'ABORT_ERR' })
  t.is(error?.cause, reason)
  t.notThrows(() => throwIfAborted(undefined))
})

test('a signal is told once, and its listener goes', (t) => {
  const controller = new AbortController()
  const errors: unknown[] = []
  const forget = onAbort(controller.signal, (error) => errors.push(error))
  t.is(getEventListeners(controller.signal, 'abort').length, 1)
  forget()
  t.is(getEventListeners(controller.signal, 'abort').length, 0)
  onAbort(controller.signal, (error) => errors.push(error))
  controller.abort()
  t.is(errors.length, 1)
  t.is((errors[0] as AbortError).code, 'ABORT_ERR')
  t.notThrows(onAbort(undefined, () => t.fail()))
})

test('any number of waits may hang on one signal', async (t) => {
  const warnings: Error[] = []
  const listener = (warning: Error): void => void warnings.push(warning)
  process.on('warning', listener)
  t.teardown(() => process.off('warning', listener))
  const { signal } = new AbortController()
  const forgets = Array.from({ length: 1000 }, () => onAbort(signal, () => t.fail()))
  t.is(getEventListeners(signal, 'abort').length, 1000)
  for (const forget of forgets) forget()
  // Warnings are told in a turn of their own.
  await new Promise((resolve) => setImmediate(resolve))
  t.deepEqual(warnings, [])
})

test('a fired signal tells in a microtask, unless it was called off', async (t) => {
  const errors: unknown[] = []
  const signal = AbortSignal.abort()
  const forget = onAbort(signal, (error) => {
    errors.push(error)
    forget()
  })
  onAbort(signal, () => t.fail())()
  t.is(errors.length, 0)
  await Promise.resolve()
  t.is(errors.length, 1)
})
