/**
 * Every call of the binding fails, at its first, second and middle call, once or from then on, while ordinary work goes on
 * (fixtures/boundary/work.ts). Who called is told, with an error of the library; no wait hangs after the bus is closed; a
 * witness in the same process goes on; no record is left. `npm test` takes every `SHARE`th case, `npm run soak` all.
 */
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { nativeFile } from '../../scripts/native.mjs'
import { CASES_PATIENCE_MS, problemsOf, SHARE, shareOf } from '../helpers/boundary.js'
import { bindingApi } from '../helpers/declarations.js'
import { rungs } from '../helpers/rungs.js'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const ENV = {
  RINGBELL_TEST_BINDING: here(`../../${nativeFile()}`),
  NAPI_RS_NATIVE_LIBRARY_PATH: here('../fixtures/boundary/faulty-binding.cjs'),
}
const PARTS = [
  'topic',
  'audience',
  'acks',
  'channel',
  'queue',
  'services',
  'claims',
  'groups',
  'processes',
  'locks',
  'states',
]
const CODES = ['CORRUPT_PEER', 'SYSTEM', 'PEER_GONE']

/** Calls that the work does not make, and why they need no case. */
const UNUSED = new Set([
  // They say what the binding is.
  'version',
  'errorCodes',
  'layoutVersion',
  // It tells another process something, and holds nothing.
  'notify',
  // They ask something about a descriptor or a path, and hold nothing.
  'socketAddress',
  'socketAnswers',
  'socketClient',
  'keepDescriptor',
  // Called once in the life of the process: before any case, by the witness, or only without an event loop.
  'new NativePoller',
  'NativePoller.supported',
  'NativePoller.poll',
  'NativePoller.close',
  // The witness holds the poller for the whole time.
  'NativePoller.ref',
  'NativePoller.unref',
  // A stream has no memory to lease, and the work spins only where time allows.
  'NativePublisherHot.spinRoom',
  'NativeStateReaderHot.spin',
  'NativeKeyedReaderHot.spin',
])

interface Dry {
  readonly counts: [call: string, calls: number][]
  readonly names: string[]
}

test('every call of the binding fails, and the boundary holds', async (t) => {
  t.timeout(CASES_PATIENCE_MS)
  const [first = 'handshake'] = rungs
  const last = rungs.at(-1) ?? first
  const dryRuns = PARTS.flatMap((part) => [...new Set([first, last])].map((rung) => `${part} ${rung}`))
  const cases: string[] = []
  const made = new Set<string>()
  let wrapped: string[] = []
  for (const told of await problemsOf('faults.ts', dryRuns, ENV)) {
    const [name = '', json = ''] = told.split(/: (.*)/s)
    const { counts, names } = JSON.parse(json) as Dry
    wrapped = names
    for (const [call, calls] of counts) {
      made.add(call)
      for (const at of whenOf(calls)) cases.push(`${name} ${call} ${at} ${codeOf(call, cases.length)}`)
    }
  }
  const declared = [...bindingApi().classes].flatMap(([owner, members]) =>
    members.map(({ name }) => `${owner}.${name}`),
  )
  const constructors = ['new NativePoller']
  t.deepEqual(
    [...declared, ...constructors].filter(
      (name) => !name.endsWith('.hot') && !wrapped.includes(name) && !made.has(name),
    ),
    [],
    'declared, but not wrapped by faulty-binding.cjs',
  )
  t.deepEqual(
    [...declared, ...constructors, ...wrapped].filter((name) => !made.has(name) && !UNUSED.has(name)),
    [],
    'the work does not make these calls: add them to work.ts',
  )
  const chosen = shareOf(cases)
  t.log(`${chosen.length} of ${cases.length} cases (every ${SHARE}.)`)
  t.deepEqual(await problemsOf('faults.ts', chosen, ENV), [])
})

/** The calls that fail: `3` the third one, `3+` all from the third one on. */
function whenOf(calls: number): string[] {
  if (calls > 2) return ['1', '2', String(calls >> 1), '1+', '2+']
  return calls > 1 ? ['1', '2', '1+'] : ['1']
}

/** `PEER_GONE` of a channel promises a notice of the end, which only the core itself can keep. */
function codeOf(call: string, index: number): string {
  const codes = call.startsWith('NativeChannelHot') ? CODES.slice(0, 2) : CODES
  return codes[index % codes.length] as string
}
