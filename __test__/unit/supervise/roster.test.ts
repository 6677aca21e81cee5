/** What a manager knows of its group, while the bus cannot be followed for some time. */
import test from 'ava'
import { serviceOf, type Service } from '../../../src/bus/service.js'
import { Roster } from '../../../src/supervise/roster.js'
import { until } from '../../helpers/place.js'

const member = (id: string): Service =>
  serviceOf({ service: 'price.member', id, kind: 'server', pid: 1, uid: 0, protocol: 1, metadata: {} })

test('what went while nobody watched is told, also if watching fails again', async (t) => {
  let there = [member('1'), member('2')]
  let watches = 0
  let gap: (error: Error) => void = () => {}
  const services = {
    scan: () => there,
    watch: () => {
      watches++
      if (watches === 2) throw new Error('there are no descriptors')
      const over = new Promise<never>((_, reject) => (gap = reject))
      return { [Symbol.asyncIterator]: () => ({ next: () => over }) }
    },
  }
  const removed: string[] = []
  const roster = new Roster({ closed: false, services } as never, 'price', ({ type, service }) => {
    if (type === 'removed') removed.push(service.id)
  })
  t.teardown(() => roster.close())
  t.is(roster.members.length, 2)
  there = [member('2'), member('3')]
  gap(new Error('the directory cannot be read'))
  await until(() => watches === 3)
  t.deepEqual(removed, ['1'])
  t.deepEqual(
    roster.members.map(({ service }) => service.id),
    ['2', '3'],
  )
})
