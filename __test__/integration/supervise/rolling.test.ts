/** Rolling restarts while the group is used: no call fails, no message is missing, no connection is refused. */
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import test from 'ava'
import type { Bus } from 'ringbell'
import type { ServiceGroup } from 'ringbell/supervise'
import { groupOf } from '../../helpers/groups.js'
import { type Place, place, until } from '../../helpers/place.js'

/** Everything that is done over and over while the group is restarted. */
class Load {
  readonly answers: unknown[] = []
  readonly failures: unknown[] = []
  #going = true
  readonly #loops: Promise<void>[] = []

  constructor(at: Place) {
    at.onEnd(() => this.end())
  }

  add(work: () => Promise<unknown>): void {
    this.#loops.push(this.#repeat(work))
  }

  /** Resolves when some more has been done. */
  async goesOn(): Promise<void> {
    const most = this.answers.length + 50
    await until(() => this.answers.length > most)
  }

  async end(): Promise<void> {
    this.#going = false
    await Promise.all(this.#loops)
  }

  async #repeat(work: () => Promise<unknown>): Promise<void> {
    while (this.#going) {
      try {
        this.answers.push(await work())
      } catch (error) {
        this.failures.push(error)
      }
      await new Promise((done) => setImmediate(done))
    }
  }
}

const pidsOf = (group: ServiceGroup): Set<number | undefined> => new Set(group.instances.map(({ pid }) => pid))

async function restarted(group: ServiceGroup): Promise<boolean> {
  const before = pidsOf(group)
  await group.restart()
  return ![...pidsOf(group)].some((pid) => before.has(pid))
}

async function caller(bus: Bus): Promise<() => Promise<unknown>> {
  const client = await bus.connect<object, { pid: number }>('price', { codec: 'json', route: 'primary' })
  return async () => (await client.call({})).pid
}

test('calls that nobody makes twice all succeed', async (t) => {
  const at = place(t)
  const group = groupOf(at, await at.bus(), 'member', { replicas: 3 })
  await group.start()
  const load = new Load(at)
  for (let clients = 0; clients < 2; clients++) {
    const call = await caller(await at.bus())
    for (let calls = 0; calls < 8; calls++) load.add(call)
  }
  await load.goesOn()
  const before = pidsOf(group)
  t.true(await restarted(group))
  await load.goesOn()
  await load.end()
  t.deepEqual(load.failures, [])
  const [first, last] = [load.answers[0] as number, load.answers.at(-1) as number]
  t.true(before.has(first) && pidsOf(group).has(last))
})

test('a subscriber that follows the primary misses no message', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  const sent = new Map<number, number>()
  const output = (line: string): void => {
    const [word, epoch, count] = line.split(' ')
    if (word === 'sent') sent.set(Number(epoch), Number(count))
  }
  const subscriber = await bus.subscriber<{ epoch: number; tick: number }>('price', { codec: 'json', route: 'primary' })
  const group = groupOf(at, bus, 'ticks', { stdio: undefined, output })
  await group.start()
  const heard = new Map<number, number[]>()
  const listening = subscriber.listen(({ value: { epoch, tick } }) => {
    heard.set(epoch, [...(heard.get(epoch) ?? []), tick])
  })
  for (const terms of [0, 1]) {
    await until(() => heard.size > terms)
    t.true(await restarted(group))
  }
  const last = [...sent.keys()].at(-1) as number
  await until(() => [...heard.keys()].some((epoch) => epoch > last))
  listening.stop()
  await listening.finished
  t.true(sent.size >= 2)
  for (const [epoch, count] of sent) t.deepEqual(heard.get(epoch) ?? [], [...Array(count).keys()], `epoch ${epoch}`)
})

test('a web server hands its socket to its successor, and refuses no connection', async (t) => {
  const at = place(t)
  const bus = await at.bus()
  let port = 0
  const output = (line: string): void => {
    if (line.startsWith('port ')) port = Number(line.slice(5))
  }
  const group = groupOf(at, bus, 'http', { minUptime: 0, stdio: undefined, output })
  await group.start()
  await until(() => port > 0)
  const load = new Load(at)
  for (let clients = 0; clients < 4; clients++) load.add(() => request(port))
  await load.goesOn()
  t.true(await restarted(group))
  await load.goesOn()
  t.deepEqual(load.failures, [])
  // What it had accepted dies with a primary that is killed. What waits does not.
  const { pid } = await until(() => group.primary)
  process.kill(pid as number, 'SIGKILL')
  await until(() => group.primary !== undefined && group.primary.pid !== pid)
  await load.goesOn()
  await load.end()
  t.deepEqual(
    load.failures.filter((error) => (error as NodeJS.ErrnoException).code !== 'ECONNRESET'),
    [],
  )
  t.true(load.failures.length <= 4)
  t.true(pidsOf(group).has(Number(load.answers.at(-1))))
})

/** Each by a connection of its own. */
async function request(port: number): Promise<string> {
  const [response] = (await once(get({ host: '127.0.0.1', port, agent: false }), 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk)
  return text
}
