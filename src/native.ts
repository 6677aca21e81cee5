/**
 * The compiled binding: the types that its build generates (native/binding.d.cts), the numbers that its hot calls
 * return, and the only code that loads it. It is loaded at the first native call and not at import, so types, errors
 * and codecs can be used anywhere. Off Linux, or without the binary, that call throws an error that says what is
 * missing.
 */
import { createRequire } from 'node:module'
import type * as Binding from '../native/binding.cjs'
import { RingbellError } from './errors.js'

export type {
  NativeAnnounced,
  NativeBus,
  NativeChannel,
  NativeChannelHot,
  NativePoller,
  NativePublisher,
  NativePublisherHot,
  NativeSlabPool,
  NativeSubscriber,
  NativeSubscriberHot,
  NativeWatch,
} from '../native/binding.cjs'

type NativeBinding = typeof Binding

/** An endpoint that the poller can watch. */
export type NativeEndpoint = Parameters<Binding.NativePoller['add']>[0]

/** The memory layout that this TypeScript was written for (`LAYOUT_VERSION` of crates/ring). */
const LAYOUT_VERSION = 1

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
/** The result of `drainLarge` if the large message will never be complete. */
export const LARGE_GONE = -1

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
  const native = requireBinding()
  const layout = native.layoutVersion()
  if (layout !== LAYOUT_VERSION) {
    throw new RingbellError(
      'ERR_RINGBELL_BINDING',
      `The compiled binding has memory layout ${layout}, this package was written for ${LAYOUT_VERSION}. Reinstall ringbell so that both come from one release.`,
    )
  }
  return native
}

function requireBinding(): NativeBinding {
  try {
    return createRequire(import.meta.url)('../native/binding.cjs') as NativeBinding
  } catch (cause) {
    throw new RingbellError(
      'ERR_RINGBELL_BINDING',
      `No compiled binding for ${process.platform}-${process.arch} could be loaded. Reinstall without --omit=optional, or build it with "npm run build" in a clone (needs Rust).`,
      { cause },
    )
  }
}
