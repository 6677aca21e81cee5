/** What a format has to say: what one instance becomes, and how the file is made of that. The formats stand in formats/, one each. */
import type { Service } from '../index.js'

/** The names of the formats. */
export type ExportFormat = 'prometheus' | 'nginx' | 'env' | 'json' | 'hosts'

/** Which services, and which of their addresses. */
export interface RenderOptions {
  /** Names, or patterns such as `web.*`; everything that has an address by default. */
  services?: string | readonly string[] | undefined
  /** The name of the endpoint to use. By default the format chooses. */
  endpoint?: string | undefined
}

/** An instance that the format has no way to write, and why. */
export interface LeftOut {
  /** The instance. */
  readonly service: Service
  /** Why, in words. */
  readonly reason: string
}

/** What instances became, by the name of their service, in the order of the names. */
export type Groups<E> = ReadonlyMap<string, readonly E[]>

export interface Format<E> {
  /** What this instance becomes, from these endpoints. `named`: the user has asked for this service by its whole name. */
  entry(service: Service, endpoints: Readonly<Record<string, string>>, named: boolean): E | Excuse
  /** Two services with the same key cannot be in one file. Without it the name is the key. */
  readonly keyOf?: (name: string) => string
  /** The file. A service that was asked for by its name is there even if it has no instance. */
  text(groups: Groups<E>): string
}

/** Why an instance is left out. */
export class Excuse {
  readonly reason: string

  constructor(reason: string) {
    this.reason = reason
  }
}

/** Whether the service's own check says that it does not work now. */
export function isFailing({ metadata }: Service): boolean {
  return metadata['health'] === 'failing'
}

/** The end of an excuse, where anybody could do harm by a name. */
export const NAME_IT = 'if it is meant, name the service'

export const UNWELL = new Excuse('its health check fails')

/** The address of the first of these endpoints that is there, otherwise that of the only one. */
export function chosen(endpoints: Readonly<Record<string, string>>, preferred: readonly string[]): string | undefined {
  const name = preferred.find((one) => Object.hasOwn(endpoints, one))
  if (name !== undefined) return endpoints[name]
  const all = Object.values(endpoints)
  return all.length === 1 ? all[0] : undefined
}

/** For `chosen`, when it has chosen nothing. */
export function noChoice(endpoints: Readonly<Record<string, string>>): Excuse {
  return new Excuse(`which of its endpoints ${Object.keys(endpoints).join(', ')} is meant? Name one (--endpoint)`)
}
