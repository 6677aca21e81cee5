/** Which of several connections a call goes to. Policy alone. */

/**
 * `'first'`: the instance that has been there longest, and the next one once it has gone. `'round-robin'`: each in turn.
 * `'least-busy'`: the one with the fewest of our calls in flight.
 */
export type Route = 'first' | 'round-robin' | 'least-busy'

/** What a choice looks at. */
export interface Choice {
  /** Takes calls. */
  readonly leaving: boolean
  readonly gone: unknown
  readonly calls: { readonly size: number }
}

export class Routing<C extends Choice> {
  readonly route: Route
  #next = 0

  constructor(route: Route) {
    this.route = route
  }

  /** In the order in which they came. */
  pick(choices: readonly C[]): C | undefined {
    const { length } = choices
    if (length === 0) return undefined
    const first = choices[0] as C
    if (length === 1 || this.route === 'first') return usable(first) ? first : choices.find(usable)
    if (this.route === 'round-robin') {
      for (let tries = 0; tries < length; tries++) {
        const one = choices[this.#next++ % length] as C
        if (usable(one)) return one
      }
      return undefined
    }
    let best: C | undefined
    // Equals take turns: otherwise one at a time would all go to the first.
    for (let at = 0; at < length; at++) {
      const one = choices[(this.#next + at) % length] as C
      if (usable(one) && (best === undefined || one.calls.size < best.calls.size)) best = one
    }
    this.#next++
    return best
  }
}

function usable(choice: Choice): boolean {
  return !choice.leaving && choice.gone === undefined
}
