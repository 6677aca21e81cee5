// @ts-check
/**
 * The order in which the steps of a stage run. A step without a lane runs alone. Neighbours with a lane run side by side:
 * those of one lane one after the other, the lanes at the same time. Called by test.mjs; knows nothing of what a step is.
 */

/**
 * Phases, which follow one another: the lanes of each.
 * @template {{ lane?: string | undefined }} T @param {readonly T[]} steps @returns {T[][][]}
 */
export function phasesOf(steps) {
  /** @type {Map<string | undefined, T[]>[]} */
  const phases = []
  for (const step of steps) {
    const last = phases.at(-1)
    const beside = step.lane !== undefined && last !== undefined && !last.has(undefined)
    const lanes = beside ? last : new Map()
    if (!beside) phases.push(lanes)
    lanes.set(step.lane, [...(lanes.get(step.lane) ?? []), step])
  }
  return phases.map((lanes) => [...lanes.values()])
}

/**
 * @template {{ lane?: string | undefined }} T
 * @param {readonly T[]} steps @param {(step: T, alone: boolean) => Promise<void>} run
 */
export async function runInLanes(steps, run) {
  for (const lanes of phasesOf(steps)) {
    const alone = lanes.length === 1
    await Promise.all(
      lanes.map(async (lane) => {
        for (const step of lane) await run(step, alone)
      }),
    )
  }
}
