// TypeScript tests, each file in a process of its own (worker threads are a thing under test here).
export default {
  files: ['__test__/**/*.test.ts', '!__test__/{types,fixtures,helpers}/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  workerThreads: false,
  // The longest time in which no test ends. A single test has less (helpers/patience.ts).
  timeout: '15m',
}
