/**
 * The type of everything that `for await` walks over here. Its own interface, because TypeScript's `AsyncIterableIterator` has one
 * parameter before 5.6 and three since then: with one, newer versions make `next()` give `any`; with more, older versions
 * cannot read it, and with `skipLibCheck` they silently make the loop's variable `any`.
 */

declare global {
  // Older versions of TypeScript and of @types/node do not have them. They are the same as in lib.esnext.disposable.
  interface SymbolConstructor {
    readonly dispose: unique symbol
    readonly asyncDispose: unique symbol
  }
  interface Disposable {
    [Symbol.dispose](): void
  }
  interface AsyncDisposable {
    [Symbol.asyncDispose](): PromiseLike<void>
  }
}

/** What `for await` walks over, once. Leaving the loop ends it, as `return()` and `await using` do. */
export interface AsyncIteration<T> {
  /** The next value, as soon as there is one; `done` at the end. Several calls may wait, and are answered in order. */
  next(): Promise<IteratorResult<T, undefined>>
  /** Ends it. */
  return(): Promise<IteratorResult<T, undefined>>
  /** Itself. */
  [Symbol.asyncIterator](): this
  /** `await using`: as `return()`. */
  [Symbol.asyncDispose](): Promise<void>
}
