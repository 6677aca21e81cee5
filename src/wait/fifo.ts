/**
 * A queue that is cheap at both ends. Taking from the front moves an index. Taken items are removed from the array now
 * and then.
 */

/** The array is cut only when more taken items than this are at its front. */
const MOST_TAKEN = 1024

export class Fifo<T> {
  #items: (T | undefined)[] = []
  #at = 0

  get size(): number {
    return this.#items.length - this.#at
  }

  push(item: T): void {
    this.#items.push(item)
  }

  /** The next item, without taking it. */
  peek(): T | undefined {
    return this.#items[this.#at]
  }

  shift(): T | undefined {
    if (this.#at === this.#items.length) return undefined
    const item = this.#items[this.#at]
    // The array must not keep a taken item alive.
    this.#items[this.#at++] = undefined
    if (this.#at === this.#items.length) this.clear()
    else if (this.#at > MOST_TAKEN && this.#at * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#at)
      this.#at = 0
    }
    return item
  }

  /** Takes out the first item for which `wanted` is true, at any position. */
  take(wanted: (item: T) => boolean): T | undefined {
    for (let at = this.#at; at < this.#items.length; at++) {
      const item = this.#items[at] as T
      if (!wanted(item)) continue
      if (at === this.#at) return this.shift()
      this.#items.splice(at, 1)
      return item
    }
    return undefined
  }

  clear(): void {
    this.#items = []
    this.#at = 0
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let at = this.#at; at < this.#items.length; at++) yield this.#items[at] as T
  }
}
