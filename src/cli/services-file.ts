/**
 * The file of `ringbell run FILE`: several services, with what each depends on, as YAML or JSON. Each error has the line and
 * column of what is wrong. It starts nothing.
 */
import { readFileSync } from 'node:fs'
import { isMap, isScalar, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml'
import type { ServiceGroupOptions } from '../supervise/index.js'
import { CommandError } from './exit-codes.js'
import { parseDuration } from './figures.js'

/** One service of the file. */
export interface FileService {
  readonly options: ServiceGroupOptions
  /** The names of services that must be ready before it is started. */
  readonly dependsOn: readonly string[]
}

/** Options whose values are durations. */
const DURATIONS = ['minUptime', 'readyTimeout', 'grace', 'delay', 'maxDelay', 'interval', 'timeout']
/** Options of a group that a file can have. The others are functions; of `health`, only `connect`. */
const OPTIONS = [
  'command args replicas dependsOn cwd env uid gid tied autoRespawn backoff',
  'minUptime maxRestarts readiness readyTimeout grace heartbeat health adopt log',
].flatMap((names) => names.split(' '))

type Fail = (node: unknown, message: string) => never

/** Reads a file. `check` throws what is wrong with the options of one group. */
export function readServices(path: string, check: (options: ServiceGroupOptions) => void): FileService[] {
  const lines = new LineCounter()
  const document = parseDocument(readFileSync(path, 'utf8'), { lineCounter: lines, prettyErrors: false })
  const fail: Fail = (node, message) => {
    const { line, col } = lines.linePos((node as Node | undefined)?.range?.[0] ?? 0)
    throw new CommandError('ERR_RINGBELL_INVALID_OPTION', `${path}:${line}:${col}: ${message}`)
  }
  for (const { pos, message } of document.errors) fail({ range: pos }, message.replace(/\.$/, ''))
  const root = document.contents
  if (!isMap(root)) fail(root, 'the file must have a map with the key services')
  for (const { key } of (root as YAMLMap).items)
    if (text(key) !== 'services') fail(key, `${text(key)} is not known here; the only key is services`)
  const services = (root as YAMLMap).get('services', true)
  if (!isMap(services) || services.items.length === 0)
    fail(services ?? root, 'services must be a map of services by name')
  const found = (services as unknown as YAMLMap).items.map(({ key, value }) =>
    oneService(text(key), key, value, check, fail),
  )
  checkDependencies(found, services, fail)
  return found
}

function oneService(
  name: string,
  at: unknown,
  value: unknown,
  check: (options: ServiceGroupOptions) => void,
  fail: Fail,
): FileService {
  if (!isMap(value)) return fail(value ?? at, `services.${name} must be a map with at least a command`)
  const values: Record<string, unknown> = {}
  for (const { key, value: node } of value.items) {
    const option = text(key)
    if (!OPTIONS.includes(option))
      fail(key, `services.${name}.${option} is not known; the options are ${OPTIONS.join(', ')}`)
    try {
      values[option] = converted(option, plain(node))
      if (option === 'log') values[option] = logFile(values[option])
      else if (option !== 'dependsOn' && option !== 'args' && option !== 'command')
        check({ service: name, command: 'true', [option]: values[option] })
    } catch (error) {
      fail(node ?? key, `services.${name}: ${(error as Error).message}`)
    }
  }
  const { command: words, args = [], dependsOn = [], log, ...others } = values
  const [command, ...first] =
    wordsOf(words) ??
    fail(value.get('command', true) ?? at, `services.${name}.command must be a command, or a list of words`)
  const needed =
    list(dependsOn) ?? fail(value.get('dependsOn', true), `services.${name}.dependsOn must be a list of services`)
  const more = list(args) ?? fail(value.get('args', true), `services.${name}.args must be a list of words`)
  const options = {
    ...others,
    stdio: log as ServiceGroupOptions['stdio'],
    service: name,
    command: command ?? '',
    args: [...first, ...more],
  }
  try {
    check(options)
  } catch (error) {
    fail(at, `services.${name}: ${(error as Error).message}`)
  }
  return { options, dependsOn: needed }
}

function checkDependencies(services: readonly FileService[], map: YAMLMap, fail: Fail): void {
  const byName = new Map(services.map((one) => [one.options.service, one]))
  const nodeOf = (name: string): unknown => (map.get(name, true) as YAMLMap | undefined)?.get('dependsOn', true)
  const walk = (name: string, way: readonly string[]): void => {
    if (way.includes(name))
      fail(nodeOf(name), `services depend on each other in a circle: ${[...way, name].join(' → ')}`)
    for (const next of byName.get(name)?.dependsOn ?? []) {
      if (!byName.has(next))
        fail(nodeOf(name), `services.${name}.dependsOn names '${next}', which is no service of this file`)
      walk(next, [...way, name])
    }
  }
  for (const name of byName.keys()) walk(name, [])
}

/** A command in one text is split at spaces. What has quotes or variables belongs into a list, or into a script. */
function wordsOf(value: unknown): string[] | undefined {
  if (typeof value !== 'string') return list(value)
  return /["'$`\\|&;<>]/.test(value) ? undefined : value.trim().split(/\s+/)
}

function logFile(value: unknown): { file: string } {
  if (typeof value !== 'string' || value === '') throw new TypeError('log must be the path of a file')
  return { file: value }
}

function list(value: unknown): string[] | undefined {
  if (!Array.isArray(value)) return undefined
  return value.every((one) => ['string', 'number', 'boolean'].includes(typeof one)) ? value.map(String) : undefined
}

function converted(name: string, value: unknown): unknown {
  if (DURATIONS.includes(name)) return parseDuration(String(value))
  if (name === 'env' && isObject(value)) return mapped(value, (_, one) => String(one))
  return isObject(value) ? mapped(value, converted) : value
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function mapped(value: Record<string, unknown>, change: (name: string, value: unknown) => unknown): object {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, change(name, one)]))
}

function plain(node: unknown): unknown {
  return typeof node === 'object' && node !== null && 'toJSON' in node ? (node as Node).toJSON() : node
}

function text(node: unknown): string {
  return String(isScalar(node) ? node.value : node)
}
