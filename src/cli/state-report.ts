/** What `inspect` and `stats` say of a state, as an object and as lines of a table. */
import type { Rung, Service, SourceStats } from '../index.js'
import { count, counted, size } from './figures.js'
import { payloadFields, shellCodec } from './payloads.js'

/** What a record says of a state. */
interface AnnouncedState {
  readonly kind: 'value' | 'keyed'
  readonly epoch: number
  readonly size: number
}

export interface StateReport {
  readonly kind: AnnouncedState['kind']
  readonly epoch: number
  readonly size: number
  /** How many values were set. Not with keys: their entries are written again from time to time. */
  readonly version?: number
  readonly readers: number
  readonly rung: Rung
  /** Without keys. Nothing, if none was set. */
  readonly current?: { value: unknown } | { text: string } | { base64: string }
}

/** `undefined` if the service is not a state. The core has checked the record. */
export function announcedState({ record }: Service): AnnouncedState | undefined {
  return record['state'] as AnnouncedState | undefined
}

/** The report about a state that this process is attached to. */
export function reportOf(
  { kind, epoch, size: most }: AnnouncedState,
  source: SourceStats,
  value: Uint8Array | undefined,
  codec = 'bytes',
): StateReport {
  const current =
    value === undefined ? {} : { current: payloadFields(Buffer.from(shellCodec(codec).decode(value)), codec) }
  const readers = source.subscribers.filter(({ slot }) => slot !== source.slot).length
  const version = kind === 'keyed' ? {} : { version: source.publisher.messages }
  return { kind, epoch, size: most, ...version, readers, rung: source.rung, ...current }
}

export function linesOfState(report: StateReport): [label: string, value: string][] {
  const { kind, epoch, size: most, version, readers, rung, current } = report
  const [value] = Object.values(current ?? { none: undefined })
  return [
    ['state', kind === 'keyed' ? 'a value for each key' : 'one value'],
    ...(kind === 'keyed'
      ? []
      : [['value', value === undefined ? 'none was set' : shownText(value)] as [string, string]]),
    ...(version === undefined ? [] : [['version', count(version)] as [string, string]]),
    ['epoch', String(epoch)],
    ['size', `up to ${size(most)}${kind === 'keyed' ? ' for a key and its value' : ''}`],
    ['readers', counted(readers, 'other reader')],
    ['acquired by', rung],
  ]
}

const MOST_SHOWN = 200

function shownText(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : JSON.stringify(value, undefined, 0)
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text
}
