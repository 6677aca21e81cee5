/**
 * The file of `ringbell run FILE`: several services, with what each depends on, as YAML or JSON. Each error has the line and
 * column of what is wrong. It starts nothing.
 */
import type { ServiceGroupOptions } from '../supervise/index.js'
import { CommandError } from './exit-codes.js'
import { parseDuration } from './figures.js'
import { type Pair, YamlFile } from './yaml-file.js'

/** One service of the file. */
export interface FileService {
  readonly options: ServiceGroupOptions
  /** The names of services that must be ready before it is started. */
  readonly dependsOn: readonly string[]
}

/** Options whose values are durations. */
const DURATIONS = ['minUptime', 'readyTimeout', 'grace', 'delay', 'maxDelay', 'interval', 'timeout']
/** Options whose values are texts, as they are written. */
const TEXTS = ['cwd', 'tied', 'readiness']
/** Options that are lists of words. */
const WORDS = ['command', 'args', 'dependsOn']
/** Options of a group that a file can have. The others are functions; of `health`, only `connect`. */
const OPTIONS = [
  'command args replicas dependsOn cwd env uid gid tied autoRespawn backoff',
  'minUptime maxRestarts readiness readyTimeout grace heartbeat health adopt log',
].flatMap((names) => names.split(' '))
/** Keys at the top that begin with this are for what several services share. */
const SHARED = 'x-'

type Check = (options: ServiceGroupOptions) => void
type Pairs = ReadonlyMap<string, Pair>

/** Reads a file. `check` throws what is wrong with the options of one group. */
export function readServices(path: string, check: Check): FileService[] {
  const file = new YamlFile(path)
  const root = file.pairs(file.root)
  if (root === undefined) return file.fail(file.root, 'the file must have a map with the key services')
  for (const { name, key } of root.values())
    if (name !== 'services' && !name.startsWith(SHARED))
      file.fail(key, `${name} is not known here; the only keys are services, and ${SHARED}… for what they share`)
  const services = file.pairs(root.get('services')?.value)
  if (services === undefined || services.size === 0)
    return file.fail(root.get('services')?.node ?? file.root, 'services must be a map of services by name')
  const found = [...services.values()].map((pair) => new Reader(file, pair, check).service())
  checkDependencies(file, found, services)
  return found
}

/** Reads one service. */
class Reader {
  readonly #file: YamlFile
  readonly #at: Pair
  readonly #check: Check
  readonly #pairs: Pairs

  constructor(file: YamlFile, at: Pair, check: Check) {
    this.#file = file
    this.#at = at
    this.#check = check
    this.#pairs =
      file.pairs(at.value) ?? file.fail(at.node, `services.${at.name} must be a map with at least a command`)
  }

  service(): FileService {
    const { name, key } = this.#at
    const others: Record<string, unknown> = {}
    for (const pair of this.#pairs.values()) {
      if (!OPTIONS.includes(pair.name))
        this.#fail(pair.key, `${pair.name} is not known; the options are ${OPTIONS.join(', ')}`)
      if (WORDS.includes(pair.name)) continue
      const option = pair.name === 'log' ? 'stdio' : pair.name
      this.#try(pair.node, () => {
        others[option] = pair.name === 'log' ? this.#log(pair) : this.#value(pair)
        this.#check({ service: name, command: 'true', [option]: others[option] })
      })
    }
    const [command, ...first] = this.#command()
    const args = [...first, ...(this.#words('args', 'a list of words') ?? [])]
    const dependsOn = this.#words('dependsOn', 'a list of services') ?? []
    const options = { ...others, service: name, command, args }
    this.#try(key, () => this.#check(options))
    return { options, dependsOn }
  }

  #command(): [command: string, ...args: string[]] {
    const pair = this.#pairs.get('command')
    const text = pair === undefined ? undefined : this.#file.text(pair.value)
    if (text !== undefined && /["'$`\\|&;<>]/.test(text))
      return this.#fail(
        pair?.node,
        `command has quotes, or signs of a shell, which nobody reads here: write a list of words, such as [sh, -c, 'sleep 5']`,
      )
    const words = text === undefined ? this.#words('command', 'a command, or a list of words') : split(text)
    const [command, ...args] = words ?? []
    if (command === undefined || command === '')
      return this.#fail(pair?.node ?? this.#at.key, 'command must be a command, or a list of words')
    return [command, ...args]
  }

  /** A list of texts. `undefined`: there is no such option. */
  #words(option: string, what: string): string[] | undefined {
    const pair = this.#pairs.get(option)
    if (pair === undefined) return undefined
    const items = this.#file.items(pair.value) ?? this.#fail(pair.node, `${option} must be ${what}`)
    return items.map((one) => this.#file.text(one) ?? this.#fail(one, `${option} must be ${what}`))
  }

  #value({ name, value }: Pair): unknown {
    const text = this.#file.text(value)
    const pairs = this.#file.pairs(value)
    if (name === 'env' && pairs !== undefined)
      return mapped(
        pairs,
        (one) => this.#file.text(one.value) ?? this.#fail(one.node, `env.${one.name} must be a text`),
      )
    if (pairs !== undefined) return mapped(pairs, (one) => this.#value(one))
    if (text === undefined) return this.#file.items(value)?.map((one) => this.#file.text(one))
    if (DURATIONS.includes(name)) return withUnit(text)
    return TEXTS.includes(name) ? text : this.#file.value(value)
  }

  #log({ node, value }: Pair): { file: string } {
    const file = this.#file.text(value)
    return file === undefined || file === '' ? this.#fail(node, 'log must be the path of a file') : { file }
  }

  #try(node: unknown, step: () => void): void {
    try {
      step()
    } catch (error) {
      if (error instanceof CommandError) throw error
      this.#file.fail(node, `services.${this.#at.name}: ${(error as Error).message}`)
    }
  }

  #fail(node: unknown, message: string): never {
    return this.#file.fail(node, `services.${this.#at.name}.${message}`)
  }
}

function mapped(pairs: Pairs, change: (pair: Pair) => unknown): object {
  return Object.fromEntries([...pairs.values()].map((pair) => [pair.name, change(pair)]))
}

/** A bare number is seconds on the command line, and milliseconds in a program. A file is near to both. */
function withUnit(text: string): number {
  const unitless = /^\d+(\.\d+)?$/.test(text) && Number(text) !== 0
  if (unitless) throw new Error(`${text} needs a unit, as in ${text}ms or ${text}s.`)
  return parseDuration(text)
}

function split(text: string): string[] {
  return text.trim().split(/\s+/)
}

function checkDependencies(file: YamlFile, found: readonly FileService[], services: Pairs): void {
  const byName = new Map(found.map((one) => [one.options.service, one]))
  const nodeOf = (name: string): unknown => file.pairs(services.get(name)?.value)?.get('dependsOn')?.node
  const walk = (name: string, way: readonly string[]): void => {
    if (way.includes(name))
      file.fail(nodeOf(name), `services depend on each other in a circle: ${[...way, name].join(' → ')}`)
    for (const next of byName.get(name)?.dependsOn ?? []) {
      if (!byName.has(next))
        file.fail(nodeOf(name), `services.${name}.dependsOn names '${next}', which is no service of this file`)
      walk(next, [...way, name])
    }
  }
  for (const name of byName.keys()) walk(name, [])
}
