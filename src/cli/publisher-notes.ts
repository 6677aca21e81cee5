/** Reports the events of a subscriber on stderr: publishers that come and go only to a person, failures always. */
import type { Service, Subscriber } from '../index.js'
import { counted } from './figures.js'
import type { Output } from './output.js'

export function tellOf(subscriber: Subscriber, out: Output): void {
  subscriber.on('attached', ({ service, rung, position }) => {
    const place = position === 'resumed' ? ', at its old position' : ''
    out.note(`${named(service)}: attached (${rung})${place}`)
    if (position === 'lost')
      out.report(`${named(service)}: our position was given up, because it kept others waiting`, {
        event: 'lost',
        ...identity(service),
      })
  })
  subscriber.on('ended', ({ service }, reason) => {
    if (reason === 'closed') out.note(`${named(service)}: closed`)
    // The other reasons (eviction, failure) have an event of their own.
    else if (reason === 'died')
      out.report(`${named(service)}: its process ${service.pid} died`, { event: 'died', ...identity(service) })
  })
  subscriber.on('missed', ({ service }, messages) =>
    out.report(`${named(service)}: missed ${counted(messages, 'message')}`, {
      event: 'missed',
      ...identity(service),
      messages,
    }),
  )
  subscriber.on('evicted', ({ service }) =>
    out.report(`${named(service)}: evicted, because we were too slow for it`, {
      event: 'evicted',
      ...identity(service),
    }),
  )
  subscriber.on('failed', ({ code, message }, service) => {
    const about = service === undefined ? '' : `${named(service)}: `
    const whose = service === undefined ? {} : identity(service)
    out.report(`${about}${message} (${code})`, { event: 'failed', ...whose, code, message })
  })
}

/** `logs@3f2a91c0`: enough to tell instances apart. */
export function named(service: Service): string {
  return `${service.name}@${service.id.slice(0, 8)}`
}

function identity({ name, id, pid }: Service): { topic: string; publisher: string; pid: number } {
  return { topic: name, publisher: id, pid }
}
