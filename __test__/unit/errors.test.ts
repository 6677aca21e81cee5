import { statSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import test from 'ava'
import { errorCodes, RingbellError } from 'ringbell'
import { errorOf, fromNative, translated } from '../../src/errors.js'

test('every code is ours and stands once', (t) => {
  t.true(errorCodes.every((code) => /^ERR_RINGBELL_[A-Z_]+$/.test(code)))
  t.is(new Set(errorCodes).size, errorCodes.length)
})

test("an error of the binding keeps code and system call; its errno is a number, as in Node's own errors", (t) => {
  const native = Object.assign(new Error('no'), {
    code: 'ERR_RINGBELL_RESOURCE',
    syscall: 'memfd_create',
    errno: 'EMFILE',
  })
  const error = fromNative(native)
  t.true(error instanceof Error)
  const { name, code, syscall, errno, message } = error as RingbellError
  t.deepEqual(
    { name, code, syscall, errno, message },
    { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE', syscall: 'memfd_create', errno: -24, message: 'no' },
  )
})

test('an error of another kind is thrown as it came', (t) => {
  const foreign = new TypeError('x is not a function')
  t.is(
    t.throws(() =>
      translated(() => {
        throw foreign
      }),
    ),
    foreign,
  )
  t.is(fromNative('text'), 'text')
})

test('details that are absent are absent', (t) => {
  const error = new RingbellError('ERR_RINGBELL_CLOSED', 'closed')
  t.false('syscall' in error || 'errno' in error || Object.hasOwn(error, 'cause'))
  t.is(new RingbellError('ERR_RINGBELL_CODEC', 'x', { cause: 1 }).cause, 1)
})

test('errors in notices of the core have the same errno; Node knows its name', (t) => {
  const told = errorOf({ code: 'ERR_RINGBELL_SYSTEM', message: 'no', syscall: 'open', errno: 'ENOENT' })
  const { errno } = t.throws<NodeJS.ErrnoException>(() => statSync('/nowhere/at/all'))
  t.is(told.errno, errno)
  t.is(getSystemErrorName(told.errno ?? 0), 'ENOENT')
  t.false('errno' in errorOf({ code: 'ERR_RINGBELL_SYSTEM', message: 'no', errno: 'UnknownErrno' }))
})
