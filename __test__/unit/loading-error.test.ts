/** The error when the compiled part cannot be loaded: the deepest reason, the name of a missing package, and what helps. */
import test from 'ava'
import { loadingError } from '../../src/loading-error.js'

const missing = (file: string): Error =>
  Object.assign(new Error(`Cannot find module '${file}'\nRequire stack:\n- native.js`), { code: 'MODULE_NOT_FOUND' })
const dlopen = (text: string, code = 'ERR_DLOPEN_FAILED'): Error => Object.assign(new Error(text), { code })
const BOTH = [missing('../native/ringbell.linux-x64-gnu.node'), missing('ringbell-linux-x64-gnu')]

test('a package that is not installed is named', (t) => {
  const error = loadingError('linux-x64-gnu', BOTH, undefined)
  t.is(error.code, 'ERR_RINGBELL_BINDING')
  t.regex(error.message, /^The package ringbell-linux-x64-gnu, .* is not installed\. .*--omit=optional/)
  t.is(error.cause, BOTH[1])
})

test('in a bundle, the error names the bundle and says how to set the bundler', (t) => {
  const { message } = loadingError('linux-x64-gnu', BOTH, '/app/dist/server.mjs')
  t.regex(message, /bundle \(\/app\/dist\/server\.mjs\).*Mark ringbell as external/)
})

test('a file that was found and not loaded is the reason, in any order of the tries', (t) => {
  const reasons: [error: Error, advice: RegExp][] = [
    [dlopen('/m/ringbell.node: failed to map segment from shared object'), /noexec/],
    [
      dlopen('Cannot load native addon because loading addons is disabled.', 'ERR_DLOPEN_DISABLED'),
      /without --no-addons/,
    ],
    [
      Object.assign(new Error('Requires ffi access to "x.node", run again with the --allow-ffi flag'), {
        name: 'NotCapable',
      }),
      /Start Deno with/,
    ],
    [dlopen("/lib/libc.so.6: version `GLIBC_2.31' not found"), /another C library/],
    [dlopen('libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory'), /another C library/],
    [dlopen('file too short'), /file too short$/],
  ]
  for (const [error, advice] of reasons) {
    for (const errors of [
      [error, BOTH[1]],
      [BOTH[0], error],
    ]) {
      // Also in a bundle: if it finds its binary, the fault is another one.
      const { message, cause } = loadingError('linux-x64-gnu', errors, '/app/bundle.mjs')
      t.true(message.includes(error.message.replace(/\.$/, '')), message)
      t.regex(message, advice)
      t.is(cause, error)
    }
  }
})

test('the error says that there is no binary for a machine', (t) => {
  t.regex(
    loadingError('linux-riscv64-gnu', [], undefined).message,
    /no compiled part of ringbell for linux-riscv64-gnu/,
  )
})
