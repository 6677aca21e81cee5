/**
 * The channels of `node:diagnostics_channel` that this library publishes on; their names and messages are API
 * (docs/guide/diagnostics.md; the types are in src/bus/diagnostics-messages.ts). Nothing is published per message, and a channel without
 * subscribers costs one check. `NODE_DEBUG=ringbell` prints to stderr.
 *
 * - `ringbell:bus:opened`, `ringbell:bus:closed`: `{ bus }`
 * - `ringbell:publisher:opened`, `ringbell:publisher:closed`: `{ publisher }`
 * - `ringbell:publisher:full`: `{ publisher, bytes }`, when a call begins to wait for room
 * - `ringbell:publisher:attached`, `…:ended`, `…:stalled`, `…:evicted`: `{ publisher, details }`
 * - `ringbell:subscriber:opened`, `ringbell:subscriber:closed`: `{ subscriber }`
 * - `ringbell:subscriber:attached`, `…:ended`, `…:missed`, `…:evicted`, `…:failed`, `…:gaveUp`: `{ subscriber, details }`,
 *   where `details` is the list of arguments of the event of that name
 * - `ringbell:state:opened`, `ringbell:state:closed`: `{ state }`
 * - `ringbell:stateReader:opened`, `ringbell:stateReader:closed`: `{ stateReader }`; `…:attached`, `…:ended`, `…:failed`, `…:gaveUp`:
 *   `{ stateReader, details }`
 * - `ringbell:claim:held`, `ringbell:claim:released`: `{ claim }`; `ringbell:claim:lost`: `{ claim, reason }`
 * - `ringbell:server:opened`, `ringbell:server:closed`: `{ server }`; `…:connected`, `…:disconnected`, `…:failed`: `{ server, details }`
 * - `ringbell:client:opened`, `ringbell:client:closed`: `{ client }`; `…:connected`, `…:disconnected`, `…:failed`, `…:gaveUp`:
 *   `{ client, details }`
 * - `ringbell:member:opened`, `ringbell:member:closed`: `{ member }`; `…:role`, `…:failed`: `{ member, details }`
 * - `ringbell:client:calling`, `ringbell:client:called`: `{ client, request }`, and then the same object with `reply` or `error`
 * - `ringbell:queue:…`: `{ queue }` and `ringbell:worker:…`: `{ worker }`, likewise. A queue also has `…:deadLetter`, for a
 *   message that was given up
 */
import { channel, type Channel } from 'node:diagnostics_channel'
import { debuglog } from 'node:util'

function ofEndpoint<E extends string>(
  name: string,
  ...events: E[]
): Readonly<Record<E | 'opened' | 'closed', Channel>> {
  const names = ['opened', 'closed', ...events] as const
  return Object.fromEntries(names.map((event) => [event, channel(`ringbell:${name}:${event}`)])) as Record<
    E | 'opened' | 'closed',
    Channel
  >
}

export const channels = {
  bus: { opened: channel('ringbell:bus:opened'), closed: channel('ringbell:bus:closed') },
  publisher: ofEndpoint('publisher', 'full', 'attached', 'ended', 'stalled', 'evicted'),
  subscriber: {
    opened: channel('ringbell:subscriber:opened'),
    closed: channel('ringbell:subscriber:closed'),
    attached: channel('ringbell:subscriber:attached'),
    ended: channel('ringbell:subscriber:ended'),
    missed: channel('ringbell:subscriber:missed'),
    evicted: channel('ringbell:subscriber:evicted'),
    failed: channel('ringbell:subscriber:failed'),
    gaveUp: channel('ringbell:subscriber:gaveUp'),
  },
  server: ofEndpoint('server', 'connected', 'disconnected', 'failed'),
  client: ofEndpoint('client', 'connected', 'disconnected', 'failed', 'gaveUp', 'calling', 'called'),
  state: { opened: channel('ringbell:state:opened'), closed: channel('ringbell:state:closed') },
  stateReader: ofEndpoint('stateReader', 'attached', 'ended', 'failed', 'gaveUp'),
  claim: {
    held: channel('ringbell:claim:held'),
    released: channel('ringbell:claim:released'),
    lost: channel('ringbell:claim:lost'),
  },
  queue: ofEndpoint('queue', 'connected', 'disconnected', 'failed', 'deadLetter'),
  worker: ofEndpoint('worker', 'connected', 'disconnected', 'failed', 'gaveUp'),
  member: ofEndpoint('member', 'role', 'failed'),
} as const

/** Prints only with `NODE_DEBUG=ringbell`. */
export const debug = debuglog('ringbell')
