/**
 * `node --import` of this file runs TypeScript of `src` and `__test__`: it reads what scripts/compiled-tests.mjs made of it.
 * Modules keep their own address, so paths beside them are right.
 */
import module from 'node:module'
import * as hooks from './typescript-hooks.mjs'

// Node 20 only has hooks in another thread.
if (module.registerHooks === undefined) module.register('./typescript-hooks.mjs', import.meta.url)
else module.registerHooks(hooks)
