/** Calls to the control services of members: one client for all of them, which calls the one that is meant. */
import type { Bus, Client, Service } from '../index.js'
import { debug } from '../diagnostics.js'
import { memberName } from './names.js'

/** What a member answers (src/group/control.ts). */
export interface MemberStatus {
  readonly pid: number
  readonly role: 'primary' | 'standby'
  readonly epoch: number
  readonly state: string
  /** Milliseconds since the last beat of its work. */
  readonly beatAge: number
}

interface Request {
  method: 'status' | 'beat' | 'stepDown' | 'drain'
  grace?: number | undefined
}

export class MemberCalls {
  readonly #client: Promise<Client<Request, MemberStatus>>

  constructor(bus: Bus, service: string) {
    this.#client = bus.connect<Request, MemberStatus>(memberName(service), { codec: 'json', route: 'round-robin' })
    this.#client.then(
      // A member that has ended meanwhile; its own end is told anyway.
      (client) => client.on('failed', (error) => debug('asking a member of %s: %s', service, error)),
      // Each call tells it.
      () => {},
    )
  }

  /** Rejects with `ERR_RINGBELL_TIMEOUT` if the member does not answer, and as every call does. */
  async call(member: Service, method: Request['method'], timeout: number, grace?: number): Promise<MemberStatus> {
    const client = await this.#client
    return client.call(
      { method, ...(grace === undefined ? {} : { grace }) },
      // A timeout of 0 would be none.
      { instance: member.id, timeout: Math.max(1, timeout) },
    )
  }

  async close(): Promise<void> {
    const client = await this.#client.catch(() => undefined)
    await client?.close()
  }
}
