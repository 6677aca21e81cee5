/** What a schema does, also a hostile one, becomes a value or `ERR_RINGBELL_SCHEMA`. */
import test from 'ava'
import { validated, validatedNow } from '../../../src/codec/schema.js'
import { broken, digits, later, schemaOf } from '../../helpers/schemas.js'

const SCHEMA = 'ERR_RINGBELL_SCHEMA'

test('the value is what the schema returns, at once or by a promise', async (t) => {
  t.is(validated(digits, '41', 'request'), 41)
  t.is(await validated(later, '41', 'request'), 41)
  t.is(validatedNow(digits, '41', 'message'), 41)
})

test('issues', async (t) => {
  const error = t.throws(() => validated(digits, 'x', 'request'), { code: SCHEMA })
  t.like(error, { message: 'A request does not match its schema: a.b: no digits', cause: [{ message: 'no digits' }] })
  await t.throwsAsync(async () => validated(later, 'x', 'reply'), { code: SCHEMA, message: /^A reply .* no digits/ })
})

test('a promise where none is possible', (t) => {
  t.throws(() => validatedNow(later, 'x', 'message'), { code: SCHEMA, message: /at once/ })
  const rejecting = schemaOf(() => Promise.reject(new Error('late')))
  t.throws(() => validatedNow(rejecting, 'x', 'message'), { code: SCHEMA, message: /at once/ })
})

test('a schema that throws, rejects, or answers nonsense', async (t) => {
  const hostile: (() => unknown)[] = [
    () => undefined,
    () => null,
    () => {
      throw null
    },
    revoked,
    () => ({
      get issues(): never {
        throw new Error('getter')
      },
    }),
    () => ({ issues: 5 }),
    () => true,
    () => 'text',
    () => ({ a: 1 }),
    async () => true,
    () => ({ issues: [null] }),
    () => withThen(() => fail('getter')),
    () => withThen(() => () => fail('then')),
    () => Promise.reject(new Error('no')),
    () => Promise.resolve(null),
  ]
  const error = t.throws(() => validated(broken, 1, 'request'), { code: SCHEMA, message: /failed: broken/ })
  t.true(error?.cause instanceof TypeError)
  for (const validate of hostile)
    await t.throwsAsync(async () => validated(schemaOf(validate as never), 1, 'request'), {
      code: SCHEMA,
      message: /^The schema of a request failed: /,
    })
})

test('a schema that returns the value itself is told what to return', (t) => {
  const itself = schemaOf((value) => value as never)
  const message = 'The schema of a message failed: it returned { a: 1 } instead of { value } or { issues }'
  t.throws(() => validated(itself, { a: 1 }, 'message'), { code: SCHEMA, message })
  t.is(
    validated(
      schemaOf(() => ({ value: undefined })),
      1,
      'message',
    ),
    undefined,
  )
})

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** An object that only looks like a promise. */
function withThen(then: () => unknown): object {
  return new Proxy({}, { get: (_target, key) => (key === 'then' ? then() : undefined) })
}

function fail(why: string): never {
  throw new Error(why)
}
