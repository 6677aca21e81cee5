/** The page of the metrics lists exactly those of the library, and the dashboard of Grafana asks for none that does not exist. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { FIGURES, KINDS, type FigureType } from '../../src/metrics/figures.js'
import { prometheusName } from '../../src/metrics/prometheus.js'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

interface Named {
  name: string
  unit: string
  type: FigureType
}
const named: readonly Named[] = KINDS.flatMap((kind): readonly Named[] => FIGURES[kind])
const all = [...named.map(prometheusName), 'ringbell_unreadable_endpoints']

test('names are those of Prometheus', (t) => {
  t.is(new Set(all).size, all.length)
  for (const name of all) t.regex(name, /^ringbell_[a-z]+(_[a-z]+)*$/)
})

test('the page of the metrics lists all of them', (t) => {
  const [, rest = ''] = read('docs/guide/prometheus.md').split('| metrics, after `ringbell_` |')
  const [table = ''] = rest.split('\n\n')
  const first = table.split('\n').map((line) => line.split('|')[1] ?? '')
  const listed = first.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => `ringbell_${name}`))
  t.deepEqual(listed.toSorted(), all.toSorted())
})

interface Panel {
  title: string
  id: number
  targets?: { expr: string }[]
}

test('the dashboard of Grafana asks for metrics that exist, and for each kind of endpoint', (t) => {
  const { panels } = JSON.parse(read('examples/grafana/ringbell.json')) as { panels: Panel[] }
  const asked = panels.flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => expr.match(/ringbell_\w+/g) ?? []))
  t.deepEqual(
    asked.filter((name) => !all.includes(name)),
    [],
  )
  for (const kind of KINDS)
    t.true(
      asked.some((name) => name.startsWith(`ringbell_${kind}_`)),
      kind,
    )
  t.is(new Set(panels.map(({ id }) => id)).size, panels.length)
  const page = read('docs/guide/prometheus.md')
  const alerts = page.slice(page.indexOf('## Grafana')).match(/ringbell_\w+/g) ?? []
  t.true(alerts.length > 4 && alerts.every((name) => all.includes(name)), alerts.join())
})
