/**
 * An EventEmitter whose listeners run in the async context (AsyncLocalStorage) in which they were registered. Events come from
 * microtasks of other code, so without this a listener would run in the context of another call or client.
 * A listener is wrapped as Node wraps those of `once`: its property `listener` lets `off`, `listeners` and `listenerCount`
 * find the original.
 */
import { AsyncResource } from 'node:async_hooks'
import { EventEmitter } from 'node:events'

type Listener = (this: unknown, ...args: unknown[]) => unknown
type Register = (this: EventEmitter, event: string | symbol, listener: Listener) => EventEmitter

/** `E`: the events, each with the list of its arguments. */
export class Emitter<E extends Record<keyof E, unknown[]>> extends EventEmitter<E> {
  /** @internal Is called after a listener was added, however that was done. */
  listenerAdded(): void {}
}

const plain = EventEmitter.prototype as unknown as Record<'on' | 'addListener' | 'prependListener', Register>

// Their types cannot be written down for a generic emitter, so they are not in the class.
redefine('on', plain.on, bound)
redefine('addListener', plain.addListener, bound)
redefine('prependListener', plain.prependListener, bound)
redefine('once', plain.on, boundOnce)
redefine('prependOnceListener', plain.prependListener, boundOnce)

function redefine(
  name: string,
  register: Register,
  wrap: (emitter: EventEmitter, event: string | symbol, listener: Listener) => Listener,
): void {
  const value: Register = function (event, listener) {
    // Node itself refuses what is not a function.
    register.call(this, event, typeof listener === 'function' ? wrap(this, event, listener) : listener)
    ;(this as Emitter<Record<string, unknown[]>>).listenerAdded()
    return this
  }
  Object.defineProperty(Emitter.prototype, name, { value, writable: true, configurable: true })
}

function bound(_emitter: EventEmitter, _event: string | symbol, listener: Listener): Listener {
  const context = new AsyncResource('RINGBELL_LISTENER', { requireManualDestroy: true })
  const run: Listener = function (...args) {
    return context.runInAsyncScope(listener, this, ...args)
  }
  return Object.assign(run, { listener })
}

function boundOnce(emitter: EventEmitter, event: string | symbol, listener: Listener): Listener {
  const inContext = bound(emitter, event, listener)
  const run: Listener = function (...args) {
    emitter.removeListener(event, run)
    return inContext.apply(this, args)
  }
  return Object.assign(run, { listener })
}
