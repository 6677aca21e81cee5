// @ts-check
/**
 * Was anything lost? Compares, for each publisher, what it had committed (its own counter, read after its end) with what
 * every subscriber received (by the sequence numbers of the messages).
 */

/** @typedef {import('./child.js').Child} Child */
/** @typedef {{ received: number, next: number, disorder: number, missed: number }} Entry a subscriber's final word on a publisher */
/** @typedef {{ committed: number, received: { name: string, messages: number }[], lost: number, wrong: number }} Verdict */

/** Collects what the subscribers say at the end of each publisher. @param {Child[]} subscribers */
export function ledger(subscribers) {
  /** @type {Map<string, Entry>} */
  const entries = new Map()
  /** @type {Set<() => void>} */
  const changed = new Set()
  const key = (/** @type {string} */ id, /** @type {Child} */ child) => `${child.name} ${id}`
  for (const child of subscribers) {
    child.on('report', (report) => {
      if (report.ended === undefined) return
      entries.set(key(report.ended, child), report)
      for (const look of changed) look()
    })
  }
  return {
    subscribers,
    entry: (/** @type {string} */ id, /** @type {Child} */ child) => entries.get(key(id, child)),
    received: (/** @type {string} */ id, /** @type {Child} */ child) => entries.get(key(id, child))?.received ?? 0,
    /** Resolves when all have told of the end of a publisher. @param {string} id */
    ended: (id) =>
      new Promise((/** @type {(nothing: void) => void} */ resolve) => {
        const look = () => {
          if (!subscribers.every((child) => entries.has(key(id, child)))) return
          changed.delete(look)
          resolve()
        }
        changed.add(look)
        look()
      }),
  }
}

/**
 * @param {ReturnType<typeof ledger>} books @param {string} id of the publisher
 * @param {number} counted its own count. One that is killed between committing and counting has committed up to one message more.
 * @returns {Verdict}
 */
export function verdict(books, id, counted) {
  const finals = books.subscribers.map((child) => ({ name: child.name, entry: books.entry(id, child) }))
  const committed = Math.max(counted, ...finals.map(({ entry }) => entry?.next ?? 0))
  const received = finals.map(({ name, entry }) => ({ name, messages: entry?.received ?? 0 }))
  return {
    committed,
    received,
    lost: received.reduce((sum, { messages }) => sum + Math.abs(committed - messages), 0),
    wrong: finals.reduce((sum, { entry }) => sum + (entry?.disorder ?? 0) + (entry?.missed ?? 0), 0),
  }
}
