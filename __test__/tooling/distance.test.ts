/** How the benchmarks tell windows with the cores near each other from those far apart. */
import test from 'ava'

interface Window {
  line?: [number, number]
  distance?: string
  p50: number
}
interface Run {
  entries: { name: string; rounds: (Window | undefined)[] }[]
}
// Plain JavaScript: the benches have no types.
const { cut, only, sortByDistance } = (await import(
  new URL('../../benches/harness/distance.mjs', import.meta.url).href
)) as {
  cut: (times: number[]) => { border: number; two: boolean }
  only: (runs: Run[], distance: string) => Run[]
  sortByDistance: (runs: Run[]) => Record<string, { windows: number; lineNs?: number }> | undefined
}

const run = (...lines: ([number, number] | undefined)[]): Run => ({
  entries: [{ name: 'one', rounds: lines.map((line, at) => (line ? { line, p50: at } : { p50: at })) }],
})
const distances = ({ entries }: Run) => entries.flatMap(({ rounds }) => rounds.map((window) => window?.distance))

test('the cut lies in the valley, wherever that is', (t) => {
  for (const scale of [0.2, 1, 7]) {
    const near = [100, 110, 120, 140, 180].map((time) => time * scale)
    const far = [500, 620, 900].map((time) => time * scale)
    const { border, two } = cut([...far, ...near])
    t.true(two)
    t.true(border > Math.max(...near) && border < Math.min(...far), `${border}`)
  }
})

test('times that hardly differ are of one distance, which a fixed border names', (t) => {
  for (const [times, expected] of [
    [[100, 110, 130, 150], 'near'],
    [[600, 700, 800, 1000], 'far'],
  ] as const) {
    t.false(cut([...times]).two)
    const runs = [run([times[0], times[1]], [times[2], times[3]])]
    sortByDistance(runs)
    t.deepEqual(distances(runs[0] as Run), [expected, expected])
  }
})

test('a window whose two times disagree is moved, and counts on neither side', (t) => {
  const runs = [run([100, 120], [600, 110], [700, 650], undefined)]
  const sorted = sortByDistance(runs)
  t.deepEqual(distances(runs[0] as Run), ['near', 'moved', 'far', undefined])
  t.deepEqual([sorted?.['near']?.windows, sorted?.['far']?.windows, sorted?.['moved']?.windows], [1, 1, 1])
  t.deepEqual(
    ['near', 'far'].map((distance) => only(runs, distance)[0]?.entries[0]?.rounds.map((window) => window?.p50)),
    [[0], [2]],
  )
})

test('a time that no line needs moves the cut nowhere, and its window counts on neither side', (t) => {
  const runs = [run([100, 120], [700, 650], [110, 60_000], [80_000, 90_000])]
  sortByDistance(runs)
  t.deepEqual(distances(runs[0] as Run), ['near', 'far', 'moved', 'moved'])
})

test('a run without times is not sorted', (t) => {
  t.is(sortByDistance([run(undefined, undefined)]), undefined)
})
