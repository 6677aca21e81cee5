/** Waits until a subscriber is attached to a topic. There is no event for that, so it checks from time to time. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Publisher } from '../index.js'

const LOOK_MS = 5

/** Resolves once a subscriber is attached: what is sent from then on reaches it. */
export async function withSubscriber<T>(publisher: Publisher<T>, signal?: AbortSignal): Promise<void> {
  const attached = (): boolean => publisher.stats().subscribers.some(({ state }) => state === 'active')
  while (!attached()) await sleep(LOOK_MS, undefined, signal === undefined ? {} : { signal })
}
