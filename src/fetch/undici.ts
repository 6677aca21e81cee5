/** undici, which is an optional peer dependency. Only this file loads it, and says what to do where it is missing. */
import { createRequire } from 'node:module'
import type * as Undici from 'undici'
import { missingPackage } from '../missing-package.js'

// The name `require` and the literal below let tracers of deployments see what is needed.
const require = createRequire(import.meta.url)

export const { buildConnector, Dispatcher, Pool } = load()

function load(): typeof Undici {
  try {
    return require('undici') as typeof Undici
  } catch (cause) {
    throw missingPackage('ringbell/fetch', 'undici', cause)
  }
}
