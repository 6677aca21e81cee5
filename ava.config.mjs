// TypeScript tests, each file in a process of its own (worker threads are a thing under test here).
import { availableParallelism } from 'node:os'
import { compiledTests } from './scripts/compiled-tests.mjs'

/** A hunt is one test (__test__/fault/groups*.test.ts). */
const FAILOVERS = Number(process.env['RINGBELL_TEST_FAILOVERS'] ?? 0)

export default {
  files: ['__test__/**/*.test.ts', '!__test__/{types,fixtures,helpers}/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=./__test__/helpers/typescript.mjs'],
  environmentVariables: { RINGBELL_COMPILED_TESTS: await compiledTests() },
  workerThreads: false,
  // More files at once than there are cores, because most tests wait most of the time.
  concurrency: 2 * availableParallelism(),
  // The longest time in which no test ends. A single test has less (helpers/patience.ts).
  timeout: `${15 * 60 + 5 * FAILOVERS}s`,
}
