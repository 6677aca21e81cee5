/**
 * Answers the request for the counters of an endpoint (flag `ABOUT`): servers and queues have the same answer, JSON that
 * the library writes. No handler is called for it.
 */
import type { Link, LinkHost } from './link.js'
import { KIND } from './wire.js'

/** The most answers of one connection that wait for its reader. */
const MOST_UNREAD = 1024

export function tellCounters(host: Pick<LinkHost, 'breach'>, link: Link, id: number, counters: object): void {
  if (link.unsent >= MOST_UNREAD) host.breach(link, 'it asks for counters and does not read them')
  else link.post(KIND.reply, id, 0, Buffer.from(JSON.stringify(counters)), true)
}
