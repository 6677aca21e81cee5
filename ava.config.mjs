// TypeScript tests, each file in a process of its own (worker threads are a thing under test here).
export default {
  files: ['__test__/**/*.test.ts', '!__test__/{types,fixtures,helpers}/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  workerThreads: false,
  // Without any test that ends; a single one has less (helpers/patience.ts).
  timeout: '15m',
}
