/**
 * The compiled binding: the types that its build generates (native/binding.d.cts), the numbers that its hot calls
 * return, and the only code that loads it. It is loaded at the first native call and not at import, so types, errors
 * and codecs can be used anywhere. Off Linux, or without the binary, that call throws an error that says what is
 * missing (loading-error.ts).
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type * as Binding from '../native/binding.cjs'
import { RingbellError } from './errors.js'
import { loadingError } from './loading-error.js'

export type {
  NativeAnnounced,
  NativeBus,
  NativeKeyedReader,
  NativeKeyedReaderHot,
  NativeKeyedState,
  NativeChannel,
  NativeChannelHot,
  NativeClaim,
  NativeClaimWatch,
  NativeListener,
  NativePoller,
  NativeProcess,
  NativePublisher,
  NativePublisherHot,
  NativeState,
  NativeStateHot,
  NativeStateReader,
  NativeStateReaderHot,
  NativeSubscriber,
  NativeSubscriberHot,
  NativeSync,
  NativeSyncHot,
  NativeWatch,
} from '../native/binding.cjs'

type NativeBinding = typeof Binding

/** An endpoint that the poller can watch. */
export type NativeEndpoint = Parameters<Binding.NativePoller['add']>[0]

/** The memory layout that this TypeScript was written for (`LAYOUT_VERSION` of crates/ring). */
const LAYOUT_VERSION = 3

/** Words per message in a subscriber's table: offset, length, offset of its batch frame, index in that batch. */
export const TABLE_WORDS = 4

/** Stands in place of the offset of a batch frame that came with an earlier drain. The scratch words describe that frame. */
export const BATCH_BEFORE = 0xffff_ffff

export const DRAIN_NEEDS_SLAB = -1
export const DRAIN_NOTICE = -2
/**
 * A message that came in pieces. For a subscriber it is complete: `takeLarge` returns it, and the first entry of the
 * table and the scratch words describe it. For a channel it is still arriving, and the scratch words name its
 * connection.
 */
export const DRAIN_LARGE = -3
/** The result of a state's `read` and `next` when the target is too short. */
export const STATE_NEEDS = -2
/** The result of `drainLarge` if the large message will never be complete. */
export const LARGE_GONE = -1

// The name `require` and the literals below let tracers of deployments (@vercel/nft) see which files are needed.
const require = createRequire(import.meta.url)

type Load = () => NativeBinding
/** For each machine: the file that a clone builds, and the package that npm installs. */
const BINARIES: Readonly<Record<string, readonly [built: Load, installed: Load]>> = {
  'linux-x64-gnu': [() => require('../native/ringbell.linux-x64-gnu.node'), () => require('ringbell-linux-x64-gnu')],
  'linux-x64-musl': [() => require('../native/ringbell.linux-x64-musl.node'), () => require('ringbell-linux-x64-musl')],
  'linux-arm64-gnu': [
    () => require('../native/ringbell.linux-arm64-gnu.node'),
    () => require('ringbell-linux-arm64-gnu'),
  ],
  'linux-arm64-musl': [
    () => require('../native/ringbell.linux-arm64-musl.node'),
    () => require('ringbell-linux-arm64-musl'),
  ],
}

let loaded: NativeBinding | undefined

/**
 * The binding, loaded once.
 *
 * @throws {RingbellError} `ERR_RINGBELL_UNSUPPORTED_PLATFORM` off Linux, `ERR_RINGBELL_BINDING` when the compiled file is
 * missing or of another layout.
 */
export function binding(): NativeBinding {
  return (loaded ??= load())
}

function load(): NativeBinding {
  if (process.platform !== 'linux') {
    throw new RingbellError(
      'ERR_RINGBELL_UNSUPPORTED_PLATFORM',
      `ringbell needs Linux (memfd, eventfd, epoll); this is ${process.platform}. Types, errors and codecs work here, a bus does not.`,
    )
  }
  const native = requireBinding(target())
  const layout = native.layoutVersion()
  if (layout !== LAYOUT_VERSION) {
    throw new RingbellError(
      'ERR_RINGBELL_BINDING',
      `The compiled binding has memory layout ${layout}, this package was written for ${LAYOUT_VERSION}. Reinstall ringbell so that both come from one release.`,
    )
  }
  return native
}

/**
 * This machine, as in the names of the binaries. The C library is that of this process, because a Node for musl also runs
 * on a system with glibc. scripts/project.mjs names the built file by the same rule. `process.report` would need 20 ms.
 */
function target(): string {
  return `linux-${process.arch}-${usesGlibc() ? 'gnu' : 'musl'}`
}

function usesGlibc(): boolean {
  try {
    return /\/libc(\.so\.6|-2\.\d+\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1'))
  } catch {
    return true
  }
}

function requireBinding(name: string): NativeBinding {
  const errors: unknown[] = []
  const own = process.env['NAPI_RS_NATIVE_LIBRARY_PATH']
  const ways = own === undefined ? (BINARIES[name] ?? []) : [(): NativeBinding => require(own)]
  for (const way of ways) {
    try {
      return way()
    } catch (error) {
      errors.push(error)
    }
  }
  throw loadingError(name, errors, bundle())
}

/** The file that this code was bundled into, if it was. */
function bundle(): string | undefined {
  try {
    const { name } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { name?: string }
    if (name === 'ringbell') return undefined
  } catch {
    // A bundle has no package.json of ringbell beside it.
  }
  return fileURLToPath(import.meta.url)
}
