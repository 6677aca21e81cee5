/** Chooses the connection that a call goes to. This is the policy alone. */

/**
 * `'first'`: the instance that has been there longest, and the next one once it has gone. `'round-robin'`: one after
 * the other. `'least-busy'`: the one with the fewest of our calls in flight. `'primary'`: the primary of a service group (primary-route.ts).
 */
export type Route = 'first' | 'round-robin' | 'least-busy' | 'primary'

/** What the choice of a connection depends on. */
export interface Choice {
  /** It takes no new calls. */
  readonly leaving: boolean
  readonly gone: unknown
  readonly calls: { readonly size: number }
}

export class Routing<C extends Choice> {
  readonly route: Exclude<Route, 'primary'>
  #next = 0

  constructor(route: Exclude<Route, 'primary'>) {
    this.route = route
  }

  /** Picks one of `choices`, which are in the order in which they came. */
  pick(choices: readonly C[]): C | undefined {
    const { length } = choices
    if (length === 0) return undefined
    const first = choices[0] as C
    if (length === 1 || this.route === 'first') return isUsable(first) ? first : choices.find(isUsable)
    if (this.route === 'round-robin') {
      for (let tries = 0; tries < length; tries++) {
        const one = choices[this.#next++ % length] as C
        if (isUsable(one)) return one
      }
      return undefined
    }
    let best: C | undefined
    // Start at another one each time. Otherwise calls that are made one at a time would all go to the first.
    for (let at = 0; at < length; at++) {
      const one = choices[(this.#next + at) % length] as C
      if (isUsable(one) && (best === undefined || one.calls.size < best.calls.size)) best = one
    }
    this.#next++
    return best
  }
}

export function isUsable(choice: Choice): boolean {
  return !choice.leaving && choice.gone === undefined
}
