/**
 * The error that users see when the compiled part cannot be loaded: why, and what to do. Loaders report this in several
 * nested errors. The message has the deepest reason, in the loader's own words. native.ts does the loading.
 */
import { isError } from './brand.js'
import { reason, RingbellError } from './errors.js'

/** Patterns in the error of a loader, and what helps. The first one that matches is used. */
const ADVICE: readonly [sign: RegExp, advice: string][] = [
  [
    /allow-ffi/,
    'Start Deno with --allow-ffi, --allow-read, --allow-env and --allow-sys, or with -A: without them it loads no compiled part.',
  ],
  [
    /ERR_DLOPEN_DISABLED/,
    'Compiled add-ons are switched off: start Node without --no-addons (look at NODE_OPTIONS, too), or with --allow-addons beside --permission.',
  ],
  [
    /failed to map segment|Operation not permitted/,
    'Its file is on a file system that is mounted with noexec: install ringbell on another one.',
  ],
  [
    /GLIBC_|libc\.musl|ld-musl|symbol not found/,
    'It was built for another C library: install ringbell on the machine that runs it.',
  ],
]

/** `errors`: one for each file that was tried. `bundle`: the file that ringbell was bundled into, if any. */
export function loadingError(target: string, errors: readonly unknown[], bundle: string | undefined): RingbellError {
  const cause = errors.find((error) => !isMissing(error)) ?? errors.at(-1)
  return new RingbellError('ERR_RINGBELL_BINDING', explanation(target, cause, bundle), { cause })
}

function explanation(target: string, cause: unknown, bundle: string | undefined): string {
  if (cause === undefined)
    return `There is no compiled part of ringbell for ${target}: build it in a clone (needs Rust).`
  if (!isMissing(cause)) {
    const signs = `${codeOf(cause)} ${reason(cause)}`
    const [, advice] = ADVICE.find(([sign]) => sign.test(signs)) ?? []
    const said = `The compiled part of ringbell for ${target} could not be loaded: ${reason(cause)}`
    return advice === undefined ? said : `${said.replace(/\.?$/, '.')} ${advice}`
  }
  if (bundle !== undefined)
    return `ringbell is inside of a bundle (${bundle}), and its compiled part is not. Mark ringbell as external in the bundler, and install it where the bundle runs.`
  return `The package ringbell-${target}, which has the compiled part of ringbell, is not installed. Reinstall without --omit=optional, and remove a lock file that was made on another system. In a clone, run "npm run build" (needs Rust).`
}

/** Whether there was no file. Every other error means that a file was found. */
function isMissing(error: unknown): boolean {
  return /^(ERR_)?MODULE_NOT_FOUND$/.test(codeOf(error))
}

function codeOf(error: unknown): string {
  return isError(error) ? String((error as NodeJS.ErrnoException).code) : ''
}
