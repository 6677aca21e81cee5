/** Records of members that cannot be written: they are written again, with what is true then. */
import test from 'ava'
import { Records } from '../../../src/group/records.js'
import { until } from '../../helpers/place.js'

test('a record that could not be written is written again, with what is true then', async (t) => {
  const failures: unknown[] = []
  const records = new Records((error) => failures.push(error))
  t.teardown(() => records.close())
  let role = 'standby'
  let left = 2
  const written: string[] = []
  const write = (): void => {
    if (left-- > 0) throw new Error('the disk is full')
    written.push(role)
  }
  const owner = {}
  records.write(owner, write)
  t.deepEqual([failures.length, written], [1, []])
  role = 'primary'
  await until(() => written.length > 0)
  t.deepEqual(written, ['primary'])
  t.is(failures.length, 2)
  // Nothing is owed any more.
  records.write(owner, write)
  t.deepEqual(written, ['primary', 'primary'])
})

test('one without a record is left in peace, and the others are not', async (t) => {
  const records = new Records(() => {})
  t.teardown(() => records.close())
  const tries = new Map([
    ['gone', 0],
    ['there', 0],
  ])
  const [gone, there] = [{}, {}]
  const fails = (name: string) => (): void => {
    tries.set(name, (tries.get(name) ?? 0) + 1)
    throw new Error(name)
  }
  records.write(gone, fails('gone'))
  records.write(there, fails('there'))
  records.forget(gone)
  await until(() => (tries.get('there') ?? 0) > 2)
  t.is(tries.get('gone'), 1)
})
