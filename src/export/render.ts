/**
 * Records in one of the formats. The work for an instance is done once for each version of its record: with a thousand services, of
 * which one has changed, only that one is written anew. Nothing here waits or touches files.
 */
import { check, checkArgument, oneOf, type Rule, type Rules, text } from '../check.js'
import type { Service } from '../index.js'
import { Excuse, type ExportFormat, type Format, type Groups, type LeftOut, type RenderOptions } from './format.js'
import { env } from './formats/env.js'
import { hosts } from './formats/hosts.js'
import { json } from './formats/json.js'
import { nginx } from './formats/nginx.js'
import { prometheus } from './formats/prometheus.js'

const FORMATS = { prometheus, nginx, env, json, hosts } satisfies Record<ExportFormat, unknown>

/** The names of the formats. */
export const exportFormats = Object.keys(FORMATS) as readonly ExportFormat[]

/** What the records became. */
export interface Rendering {
  /** The contents of the file. */
  readonly text: string
  /** How many services are in it. */
  readonly services: number
  /** What the format has no way to write. */
  readonly leftOut: readonly LeftOut[]
}

/** Renders again and again. */
export type Renderer = (records: Iterable<Service>) => Rendering

/** A service's name, or a pattern in which `*` stands for any characters. */
const NAME = /^[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}$/

const names: Rule = (value) => {
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.length > 0 && list.every((one) => typeof one === 'string' && NAME.test(one))
    ? undefined
    : 'must be the name of a service, a pattern such as web.*, or a list of them'
}

export const RENDER: Rules = { services: names, endpoint: text(256) }
export const format: Rule = oneOf(...exportFormats)

/**
 * Records as the text of a file. Records without an address are not in it.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`.
 */
export function render(records: Iterable<Service>, format: ExportFormat, options: RenderOptions = {}): string {
  return renderer(format, options)(records).text
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function renderer(name: ExportFormat, options: RenderOptions = {}): Renderer {
  checkArgument('format', name, format)
  check(options, RENDER)
  return rendererOf(FORMATS[name] as Format<unknown>, options)
}

function rendererOf<E>(format: Format<E>, { services, endpoint }: RenderOptions): Renderer {
  const asked = services === undefined ? ['*'] : [services].flat()
  const wanted = matcher(asked)
  const always = asked.filter((name) => !name.includes('*'))
  const known = new WeakMap<Service, E | Excuse>()
  const entryOf = (service: Service): E | Excuse => {
    const before = known.get(service)
    if (before !== undefined) return before
    const entry = newEntry(format, service, endpoint)
    known.set(service, entry)
    return entry
  }
  return (records) => {
    const leftOut: LeftOut[] = []
    const groups = new Map<string, E[]>()
    const inOrder = [...records].filter((one) => hasAddress(one) && wanted(one.name)).sort(byNameAndId)
    // In the order of the names, also those without an instance.
    for (const name of [...new Set([...always, ...inOrder.map((one) => one.name)])].sort()) groups.set(name, [])
    for (const service of inOrder) {
      const entry = entryOf(service)
      if (entry instanceof Excuse) leftOut.push({ service, reason: entry.reason })
      else groups.get(service.name)?.push(entry)
    }
    for (const [name, entries] of groups) if (entries.length === 0 && !always.includes(name)) groups.delete(name)
    return { text: format.text(groups as Groups<E>), services: groups.size, leftOut }
  }
}

function newEntry<E>(format: Format<E>, service: Service, endpoint: string | undefined): E | Excuse {
  const { endpoints } = service
  if (endpoint === undefined) return format.entry(service, endpoints)
  const address = endpoints[endpoint]
  if (address === undefined || !Object.hasOwn(endpoints, endpoint)) return new Excuse(`it has no endpoint ${endpoint}`)
  return format.entry(service, { [endpoint]: address })
}

function hasAddress({ endpoints }: Service): boolean {
  for (const _ in endpoints) return true
  return false
}

function matcher(asked: readonly string[]): (name: string) => boolean {
  if (asked.includes('*')) return () => true
  const exact = new Set(asked)
  const patterns = asked
    .filter((one) => one.includes('*'))
    .map((one) => new RegExp(`^${one.replaceAll('.', '\\.').replaceAll('*', '.*')}$`))
  return (name) => exact.has(name) || patterns.some((one) => one.test(name))
}

function byNameAndId(a: Service, b: Service): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0
}
