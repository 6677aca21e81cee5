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
  const named = new Set(asked.filter((name) => !name.includes('*')))
  const keyOf = format.keyOf ?? ((name: string): string => name)
  const sorted = sorter()
  const known = new WeakMap<Service, E | Excuse>()
  const entryOf = (service: Service): E | Excuse => {
    const before = known.get(service)
    if (before !== undefined) return before
    const entry = newEntry(format, service, endpoint, named.has(service.name))
    known.set(service, entry)
    return entry
  }
  return (records) => {
    const leftOut: LeftOut[] = []
    const groups = new Map<string, E[]>()
    // What was asked for by its name comes first.
    const owners = new Map<string, string>()
    const always = [...named].filter((name) => owns(owners, keyOf(name), name))
    for (const service of sorted(records, wanted)) {
      const entry = entryOf(service)
      if (entry instanceof Excuse) leftOut.push({ service, reason: entry.reason })
      else if (!owns(owners, keyOf(service.name), service.name))
        leftOut.push({
          service,
          reason: `the file has ${owners.get(keyOf(service.name))}, which is the same name there`,
        })
      else {
        const group = groups.get(service.name)
        if (group === undefined) groups.set(service.name, [entry])
        else group.push(entry)
      }
    }
    const all = withNames(groups, always)
    return { text: format.text(all), services: all.size, leftOut }
  }
}

/** Whether this name has the key, or gets it now. */
function owns(owners: Map<string, string>, key: string, name: string): boolean {
  const owner = owners.get(key)
  if (owner === undefined) owners.set(key, name)
  return owner === undefined || owner === name
}

/** Also the names without an instance, in the order of the names. */
function withNames<E>(groups: Groups<E>, names: readonly string[]): Groups<E> {
  const missing = names.filter((name) => !groups.has(name))
  if (missing.length === 0) return groups
  return new Map([...groups.keys(), ...missing].sort().map((name) => [name, groups.get(name) ?? []]))
}

/** Sorts by name and id. It knows the places of the last time, so that records that have only changed need not be sorted. */
function sorter(): (records: Iterable<Service>, wanted: (name: string) => boolean) => Service[] {
  let places = new Map<string, number>()
  return (records, wanted) => {
    const known: (Service | undefined)[] = Array.from({ length: places.size })
    const others: Service[] = []
    let left = places.size
    for (const one of records) {
      if (!hasAddress(one) || !wanted(one.name)) continue
      const place = places.get(one.id)
      if (place === undefined) others.push(one)
      else {
        if (known[place] === undefined) left--
        known[place] = one
      }
    }
    if (left === 0 && others.length === 0) return known as Service[]
    const inOrder = [...known.filter((one) => one !== undefined), ...others].sort(byNameAndId)
    places = new Map(inOrder.map(({ id }, place) => [id, place]))
    return inOrder
  }
}

function newEntry<E>(format: Format<E>, service: Service, endpoint: string | undefined, named: boolean): E | Excuse {
  const { endpoints } = service
  if (endpoint === undefined) return format.entry(service, endpoints, named)
  const address = endpoints[endpoint]
  if (address === undefined || !Object.hasOwn(endpoints, endpoint)) return new Excuse(`it has no endpoint ${endpoint}`)
  return format.entry(service, { [endpoint]: address }, named)
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
