/** Memory that is shared cannot be transferred, and a runtime without the mark loads the package all the same. */
import test from 'ava'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const TYPESCRIPT = new URL('../helpers/typescript.mjs', import.meta.url).href

/** Runs in a process of its own what marks one byte, after `node:worker_threads` was changed. */
async function marked(change: string): Promise<string> {
  const setup = `
    import threads from 'node:worker_threads'
    import { syncBuiltinESMExports } from 'node:module'
    ${change}
    syncBuiltinESMExports()`
  const main = `
    const { untransferable } = await import(${JSON.stringify(new URL('../../src/untransferable.ts', import.meta.url).href)})
    console.log(untransferable(Uint8Array.of(7))[0])`
  const imports = [TYPESCRIPT, `data:text/javascript,${encodeURIComponent(setup)}`].flatMap((one) => ['--import', one])
  const { stdout } = await promisify(execFile)(process.execPath, [...imports, '--input-type=module', '-e', main], {
    timeout: 60_000,
  })
  return stdout.trim()
}

test('it works on a runtime whose mark throws or is missing', async (t) => {
  t.is(await marked(`threads.markAsUntransferable = () => { throw new Error('not implemented') }`), '7')
  t.is(await marked('threads.markAsUntransferable = undefined'), '7')
})
