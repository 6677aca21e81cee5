/** The charts: each label is clear by itself, the best of ringbell and two rivals are emphasized, the files match their data. */
import { readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
// Plain JavaScript: the benches have no types.
const { charts } = (await import(new URL('../../benches/harness/chart.mjs', import.meta.url).href)) as {
  charts: (result: unknown) => Record<string, string>
}

const RESULTS = new URL('../../benches/results/', import.meta.url)
const read = (name: string): string => readFileSync(new URL(name, RESULTS), 'utf8')
const results = readdirSync(RESULTS)
  .filter((name) => name.endsWith('.json'))
  .map((name) => charts(JSON.parse(read(name))))

test('every committed chart is what its data gives', (t) => {
  for (const name of readdirSync(RESULTS).filter((file) => file.endsWith('.svg')))
    t.true(
      results.some((drawn) => drawn[name] === read(name)),
      `${name}: draw it with node benches/run.mjs --draw`,
    )
})

test('no label refers to another one, and no two are the same', (t) => {
  for (const [name, svg] of results.flatMap((drawn) => Object.entries(drawn))) {
    const labels = [...svg.matchAll(/<text class="(?:text|soft)"[^>]* font-size="12(?:\.5)?"[^>]*>([^<]*)</g)].map(
      ([, text]) => text,
    )
    t.deepEqual(
      labels.filter((text) => /\bthe same\b|^(socket|zeromq|memcpy) /.test(text ?? '')),
      [],
      name,
    )
  }
})

test("ringbell's best entry and two rivals are emphasized", (t) => {
  for (const [name, svg] of results.flatMap((drawn) => Object.entries(drawn))) {
    const strong = (kind: string): number => [...svg.matchAll(new RegExp(`class="(?:line )?${kind}"`, 'g'))].length
    if (!/class="(?:line )?rival/.test(svg)) continue
    t.is(strong('ringbell'), 1, name)
    t.is(strong('rival'), 2, name)
  }
})
