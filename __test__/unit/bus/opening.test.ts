/** Endpoints that cannot be watched, or closed: with the real binding, and a poller that is made to fail. */
import test from 'ava'
import { Bus } from '../../../src/bus/bus.js'
import { Poller } from '../../../src/wait/poller.js'
import { place } from '../../helpers/place.js'

const add = Object.getOwnPropertyDescriptor(Poller.prototype, 'add')?.value as Poller['add']
const remove = Object.getOwnPropertyDescriptor(Poller.prototype, 'remove')?.value as Poller['remove']

test.serial('an endpoint that cannot be watched is closed and not announced', async (t) => {
  const at = place(t)
  const bus = await Bus.open({ path: at.path })
  at.onEnd(() => bus.close())
  Poller.prototype.add = () => {
    throw Object.assign(new Error('no'), { code: 'ERR_RINGBELL_RESOURCE', syscall: 'epoll_ctl', errno: 'ENOSPC' })
  }
  t.teardown(() => (Poller.prototype.add = add))
  const failure = { name: 'RingbellError', code: 'ERR_RINGBELL_RESOURCE' }
  await t.throwsAsync(bus.publisher('ticks'), failure)
  t.deepEqual(at.files(), [])
  await t.throwsAsync(bus.subscriber('ticks'), failure)
  t.throws(() => bus.services.watch(), failure)
  Poller.prototype.add = add
  const publisher = await bus.publisher('ticks')
  await (await bus.subscriber('ticks')).attached()
  t.is(publisher.subscribers, 1)
})

test.serial('a failed close does not stop the other closes', async (t) => {
  const at = place(t)
  const bus = await Bus.open({ path: at.path })
  const publishers = [await bus.publisher('a'), await bus.publisher('b')]
  const subscriber = await bus.subscriber('a')
  Poller.prototype.remove = () => {
    throw new Error('no')
  }
  t.teardown(() => (Poller.prototype.remove = remove))
  const other = await bus.publisher('c')
  const ids = at.files().length
  await t.throwsAsync(other.close(), { message: 'no' })
  t.true(other.closed && at.files().length < ids)
  const error = await t.throwsAsync<AggregateError>(bus.close())
  Poller.prototype.remove = remove
  t.is(error?.errors.length, 3)
  t.true(subscriber.closed && publishers.every(({ closed }) => closed))
  t.deepEqual(at.files(), [])
  await t.notThrowsAsync(bus.close())
})
