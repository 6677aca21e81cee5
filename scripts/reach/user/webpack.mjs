// Bundles features.mjs by webpack, with ringbell as an external module.
import webpack from 'webpack'

const compiler = webpack({
  mode: 'production',
  target: 'node20',
  entry: './features.mjs',
  experiments: { outputModule: true },
  externalsType: 'module',
  externals: { ringbell: 'ringbell' },
  output: { path: import.meta.dirname, filename: 'webpacked.mjs', module: true },
})
compiler.run((error, stats) => {
  if (error !== null || stats.hasErrors()) {
    console.error(error ?? stats.toString())
    process.exitCode = 1
  }
})
