// The public face: what `import … from 'ringbell'` gives. The code is in src/, compiled to dist/.
export * from './dist/index.js'
