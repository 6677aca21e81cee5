/** How typescript.mjs finds and reads a module, as Node's module hooks. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('../..', import.meta.url).href
const COMPILED = process.env['RINGBELL_COMPILED_TESTS']
if (COMPILED === undefined) throw new Error('RINGBELL_COMPILED_TESTS is not set: ava.config.mjs does it')

const isOurs = (url) => url.startsWith(ROOT) && url.endsWith('.ts') && !url.includes('/node_modules/')

/** `./file.js` is `./file.ts`, if there is one. */
export function resolve(specifier, context, next) {
  const { parentURL } = context
  if (!specifier.startsWith('.') || parentURL === undefined || !isOurs(parentURL)) return next(specifier, context)
  const { href } = new URL(specifier.replace(/\.js$/, '.ts'), parentURL)
  if (!isOurs(href) || !existsSync(fileURLToPath(href))) return next(specifier, context)
  return { url: href, format: 'module', shortCircuit: true }
}

export function load(url, context, next) {
  if (!isOurs(url)) return next(url, context)
  const path = `${COMPILED}/${url.slice(ROOT.length).replace(/\.ts$/, '.js')}`
  return { format: 'module', source: readFileSync(path, 'utf8'), shortCircuit: true }
}
