/**
 * A YAML file as nodes that know their place, for errors with line and column. An alias (`*name`) stands for what it names, a merge
 * key (`<<`) for the pairs that it brings, and a text is what was written: `1.10` stays `1.10`. What the nodes mean is said in
 * services-file.ts, which is the only one that reads files.
 */
import { readFileSync } from 'node:fs'
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from 'yaml'
import { CommandError } from './exit-codes.js'

/** A key with its value. `node` is where the value stands, or the key if there is none. */
export interface Pair {
  readonly name: string
  readonly key: unknown
  readonly value: unknown
  readonly node: unknown
}

/** Why a file cannot be read. */
const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'this user may not read it',
}

export class YamlFile {
  readonly #path: string
  readonly #lines = new LineCounter()
  readonly #document: Document

  /** @throws {CommandError} if the file cannot be read, or is no YAML. */
  constructor(path: string) {
    this.#path = path
    this.#document = parseDocument(textOf(path), { lineCounter: this.#lines, prettyErrors: false })
    for (const { code, pos, message } of this.#document.errors) {
      const several = 'it has several documents (---); put all services into one'
      this.fail({ range: pos }, code === 'MULTIPLE_DOCS' ? several : message.replace(/\.$/, ''))
    }
    visit(this.#document, {
      Alias: (_key, alias, way) => {
        const named = alias.resolve(this.#document)
        if (named === undefined) this.fail(alias, `*${alias.source} names nothing that stands before it`)
        if (way.includes(named)) this.fail(alias, `*${alias.source} is a part of what it names`)
      },
    })
  }

  get root(): unknown {
    return this.#document.contents
  }

  fail(node: unknown, message: string): never {
    const { line, col } = this.#lines.linePos((node as Node | undefined)?.range?.[0] ?? 0)
    throw new CommandError('ERR_RINGBELL_INVALID_OPTION', `${this.#path}:${line}:${col}: ${message}`)
  }

  /** The node itself, or what it names as an alias. */
  resolved(node: unknown): unknown {
    return isAlias(node) ? node.resolve(this.#document) : node
  }

  /** The pairs of a map by their names, in order. What it merges stands after its own, which win. `undefined`: it is no map. */
  pairs(node: unknown): Map<string, Pair> | undefined {
    const map = this.resolved(node)
    if (!isMap(map)) return undefined
    const pairs = new Map<string, Pair>()
    const merged: Pair[] = []
    for (const { key, value } of map.items) {
      const pair = { name: written(key), key, value, node: value ?? key }
      if (isScalar(key) && key.type === 'PLAIN' && pair.name === '<<') merged.push(...this.#merged(pair))
      else pairs.set(pair.name, pair)
    }
    for (const pair of merged) if (!pairs.has(pair.name)) pairs.set(pair.name, pair)
    return pairs
  }

  /** The items of a list. `undefined`: it is none. */
  items(node: unknown): unknown[] | undefined {
    const list = this.resolved(node)
    return isSeq(list) ? list.items : undefined
  }

  /** What was written, without quotes. `undefined`: it is a map or a list. */
  text(node: unknown): string | undefined {
    const one = this.resolved(node)
    return one === null || isScalar(one) ? written(one) : undefined
  }

  /** As JavaScript has it. */
  value(node: unknown): unknown {
    const one = this.resolved(node)
    return isScalar(one) ? one.value : one
  }

  #merged({ value, node }: Pair): Pair[] {
    return (this.items(value) ?? [value]).flatMap((one) => [
      ...(this.pairs(one) ?? this.fail(node, '<< must have a map, or a list of maps')).values(),
    ])
  }
}

function written(node: unknown): string {
  if (isScalar(node)) return node.source ?? String(node.value)
  return isNode(node) ? node.toString() : ''
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code)
    throw new CommandError('ERR_RINGBELL_INVALID_OPTION', `Cannot read '${path}': ${UNREADABLE[code] ?? code}`, {
      cause: error,
    })
  }
}
