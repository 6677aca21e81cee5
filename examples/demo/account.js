// @ts-check
/**
 * The books of a subscriber: what came of each publisher, by the sequence numbers of the messages. What it adds up to is
 * compared with what the publisher had committed, in main.js.
 */

/** @typedef {{ received: number, next: number, disorder: number }} Entry */

export class Account {
  /** @type {Map<string, Entry>} */
  #entries = new Map()
  received = 0
  disorder = 0

  /** @param {string} publisher @param {number} sequence */
  take(publisher, sequence) {
    let entry = this.#entries.get(publisher)
    if (entry === undefined) this.#entries.set(publisher, (entry = { received: 0, next: 0, disorder: 0 }))
    if (sequence !== entry.next) {
      entry.disorder++
      this.disorder++
    }
    entry.next = sequence + 1
    entry.received++
    this.received++
  }

  /** The final word on one publisher. @param {string} publisher @returns {Entry} */
  of(publisher) {
    return this.#entries.get(publisher) ?? { received: 0, next: 0, disorder: 0 }
  }
}

/**
 * Tells main who was attached, and the books of each publisher that has ended.
 * @param {import('ringbell').Subscriber} subscriber @param {Account} account @param {(report: object) => void} report
 */
export function tellOf(subscriber, account, report) {
  let missed = 0
  subscriber.on('attached', ({ service, rung }) => report({ attached: service.id, rung }))
  subscriber.on('missed', (_publisher, messages) => (missed += messages))
  subscriber.on('ended', ({ service }, reason) =>
    report({ ended: service.id, reason, missed, ...account.of(service.id) }),
  )
  subscriber.on('failed', ({ code, message }, service) =>
    report({ failed: `${service?.id.slice(0, 8) ?? 'the bus'}: ${message} (${code})` }),
  )
}
