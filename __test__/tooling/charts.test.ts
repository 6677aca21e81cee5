/** The charts: each label stands alone, ringbell's best and the two strongest rivals are strong, and the committed ones are drawn from their data. */
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

test('every chart that is committed is what its data draws', (t) => {
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

test("ringbell's best and two rivals are strong", (t) => {
  for (const [name, svg] of results.flatMap((drawn) => Object.entries(drawn))) {
    const strong = (kind: string): number => [...svg.matchAll(new RegExp(`class="(?:line )?${kind}"`, 'g'))].length
    if (!/class="(?:line )?rival/.test(svg)) continue
    t.is(strong('ringbell'), 1, name)
    t.is(strong('rival'), 2, name)
  }
})
