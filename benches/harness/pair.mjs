// Two Node processes of one rival, each pinned to a core, and the windows that are measured on them.
//
// A pair stays open through all rounds of its case (nothing is measured while code is still interpreted) and
// is idle between its windows. Rivals whose two sides belong to one process tree (`hosted`: fork IPC, worker
// threads) start their peer themselves and relay what the harness says to it.

import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { Endpoint, PATIENCE } from './endpoint-process.mjs'

class Pair {
  constructor(options) {
    this.options = options
  }

  async open(roles) {
    const { module, scratch, cores = [0, 1], hosted = false, ...job } = this.options
    this.hosted = hosted
    this.address = mkdtempSync(path.join(scratch, 'pair-'))
    const shared = { ...job, module, address: this.address, cores }
    this.first = new Endpoint({ ...shared, role: roles[0], peerRole: roles[1] }, cores[0])
    const peerReady = hosted ? this.first.next('peer:ready') : undefined
    peerReady?.catch(() => {})
    await this.first.next('ready')
    if (hosted) await peerReady
    else {
      this.second = new Endpoint({ ...shared, role: roles[1] }, cores[1])
      await this.second.next('ready')
    }
  }

  tellSecond(message) {
    if (this.hosted) this.first.tell({ ...message, toPeer: true })
    else this.second.tell(message)
  }

  nextOfSecond(type, patience) {
    return this.hosted ? this.first.next(`peer:${type}`, patience) : this.second.next(type, patience)
  }

  async close() {
    await this.second?.close()
    await this.first?.close()
    if (this.address) rmSync(this.address, { recursive: true, force: true })
  }
}

/** One way: the first process sends as fast as it can, the second checks and counts. */
export class Stream extends Pair {
  async open() {
    await super.open(['sender', 'receiver'])
  }

  async window({ warm, ms }) {
    const lossy = this.options.lossy ?? false
    const armed = this.nextOfSecond('armed')
    this.tellSecond({ type: 'arm', warm, ms })
    await armed
    const counted = this.nextOfSecond('counted', PATIENCE + warm + ms)
    this.first.tell({ type: 'start', warm })
    const received = await counted
    const stopped = this.first.next('stopped')
    this.first.tell({ type: 'stop' })
    const sent = await stopped
    const settled = this.nextOfSecond('settled')
    this.tellSecond({ type: 'settle', total: sent.total })
    const { bad, lost, missing } = await settled
    if (bad || (!lossy && (lost || missing))) {
      throw new Error(`${bad} damaged, ${lost} lost, ${missing} not arrived of ${sent.total}`)
    }
    const perSecond = received.messages / received.seconds
    const senderMicros = sent.cpuMicros / sent.messages
    // Worker threads share one process: its CPU time is that of both sides.
    const receiverMicros = this.options.oneProcess ? 0 : received.cpuMicros / received.messages
    const tally = Object.entries(received.tally ?? {}).map(([name, value]) => [
      `${name}PerSecond`,
      value / received.seconds,
    ])
    return {
      ...Object.fromEntries(this.options.tallies ? tally : []),
      messages: received.messages,
      seconds: received.seconds,
      perSecond,
      bytesPerSecond: perSecond * this.options.size,
      cpuMicrosPerMessage: senderMicros + receiverMicros,
      senderMicrosPerMessage: senderMicros,
      receiverMicrosPerMessage: this.options.oneProcess ? undefined : receiverMicros,
      lost,
    }
  }
}

/** Round trips: the first process sends, the second echoes, the first waits for the echo and times it. */
export class RoundTrip extends Pair {
  async open() {
    await super.open(['pinger', 'echoer'])
  }

  async window({ warm, ms }) {
    const done = this.first.next('trips', PATIENCE + warm + ms)
    this.first.tell({ type: 'trips', warm, ms })
    const { bad, lost, type: _, ...result } = await done
    if (bad || lost) throw new Error(`${bad} echoes damaged, ${lost} lost`)
    return result
  }
}

/** Calls: the first process serves, the second calls and checks every reply: one at a time, or `inFlight` at a time. */
export class Calls extends Pair {
  async open() {
    await super.open(['server', 'caller'])
  }

  async window({ warm, ms }) {
    const before = await this.first.ask({ type: 'cpu' }, 'cpu')
    const type = this.options.inFlight ? 'pipeline' : 'trips'
    const called = await this.second.ask({ type, warm, ms }, 'called', PATIENCE + warm + ms)
    const after = await this.first.ask({ type: 'cpu' }, 'cpu')
    const { type: _, calls, cpuMicros, bad, lost, ...result } = called
    if (bad || lost) throw new Error(`${bad} replies damaged, ${lost} lost`)
    return {
      ...result,
      bytesPerSecond: result.perSecond * (this.options.reply ?? this.options.size),
      cpuMicrosPerMessage: (cpuMicros + after.micros - before.micros) / calls,
    }
  }
}
