// The public face: the types of `import … from 'ringbell'`. The code is in src/, compiled to dist/.
export * from './dist/index.js'
