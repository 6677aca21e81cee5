/**
 * The fenced blocks of a Markdown page, by section, and what a `text` block says of an output. The last section of
 * docs/guide/README.md tells authors what an info string can say. Blocks in HTML comments count: readers do not see them.
 */

export interface Block {
  /** `page:line` of the fence. */
  readonly at: string
  readonly language: string
  /** What stands behind the language: `file=a.mjs` or a bare word, which has the value ''. */
  readonly options: ReadonlyMap<string, string>
  readonly code: string
}

/** What stands between two headings of the first or second level. */
export interface Section {
  readonly title: string
  readonly blocks: Block[]
}

const FENCE = /^(\s*)(`{3,}|~{3,})[ \t]*(.*)$/

export function sectionsOf(page: string, markdown: string): Section[] {
  const sections: Section[] = [{ title: 'top', blocks: [] }]
  const lines = markdown.split('\n')
  for (let n = 0; n < lines.length; n++) {
    const [, indent = '', fence, info = ''] = FENCE.exec(lines[n] ?? '') ?? []
    if (fence === undefined) {
      const title = /^##? +(.*)$/.exec(lines[n] ?? '')?.[1]
      if (title !== undefined) sections.push({ title, blocks: [] })
      continue
    }
    const at = `${page}:${n + 1}`
    const code: string[] = []
    for (n++; lines[n]?.trim() !== fence; n++) {
      if (n >= lines.length) throw new Error(`${at}: this block has no end`)
      code.push((lines[n] ?? '').slice(indent.length))
    }
    const [language = '', ...words] = info.trim().split(/\s+/)
    const options = new Map(words.map((word) => [word.replace(/=.*/, ''), word.replace(/^[^=]*=?/, '')]))
    sections.at(-1)?.blocks.push({ at, language, options, code: code.map((line) => `${line}\n`).join('') })
  }
  return sections.filter(({ blocks }) => blocks.length > 0)
}

/** The relative links of a page, without those in code. */
export function linksOf(markdown: string): string[] {
  const prose = markdown.replace(/^\s*(```|~~~)[\s\S]*?^\s*\1/gm, '').replace(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = '']) => to).filter((to) => !/^[a-z]+:/.test(to))
}

/** The names that GitHub gives to the headings of a page. */
export function anchorsOf(markdown: string): Set<string> {
  const headings = markdown.replace(/^\s*```[\s\S]*?^\s*```/gm, '').matchAll(/^#+ +(.*)$/gm)
  const names = [...headings].map(([, title = '']) => title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, ''))
  return new Set(names.map((name) => name.trim().replace(/\s/g, '-')))
}

/** `…` stands for anything in a line, alone in a line for any lines; as the last line, for whatever comes after. */
export class Expectation {
  readonly text: string
  /** The program may go on after this. */
  readonly goesOn: boolean
  readonly #unordered: boolean
  readonly #anyNumber: boolean
  readonly #lines: string[]

  constructor({ code, options }: Block) {
    this.text = code
    this.#lines = code.trimEnd().split('\n')
    this.goesOn = this.#lines.at(-1) === '…'
    if (this.goesOn) this.#lines.pop()
    this.#unordered = options.has('unordered')
    this.#anyNumber = options.has('numbers')
  }

  /** Whether this output is what was expected; with `goesOn`, whether it begins so. */
  isMetBy(output: string): boolean {
    if (!this.#unordered) {
      const pattern = this.#lines.map((line) => (line === '…' ? '(?:.*\\n)*?' : `${this.#pattern(line)} *\\n`)).join('')
      return new RegExp(`^${pattern}${this.goesOn ? '' : '\\s*$'}`).test(output)
    }
    const left = output.trimEnd().split(/ *\n/)
    const all = this.#lines.every((line) => {
      const found = left.findIndex((candidate) => new RegExp(`^${this.#pattern(line)}$`).test(candidate))
      if (found >= 0) left.splice(found, 1)
      return found >= 0
    })
    return all && (this.goesOn || left.length === 0)
  }

  #pattern(line: string): string {
    const literal = line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*')
    return this.#anyNumber ? literal.replace(/\b(?=[0-9a-f]*[0-9])[0-9a-f]+\b/g, '[0-9a-f]+') : literal
  }
}
