/** A real nats-server for one test, and a link to it that can be held up. Where the program is missing, these tests are skipped. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, connect, type Server, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { Child } from './child.js'
import { until } from './place.js'

const there = spawnSync('nats-server', ['--version']).status === 0
/** Counted as skipped where there is no nats-server (Debian: nats-server). */
export const natsTest = there ? test : test.skip

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

export interface NatsServer {
  readonly url: string
  readonly port: number
  child: Child
  /** Starts it again, on the same port. */
  start(): Promise<void>
}

/** Started, and ended with the test. */
export async function natsServer(t: ExecutionContext, args: readonly string[] = []): Promise<NatsServer> {
  const port = await freePort()
  const server: NatsServer = {
    url: `nats://127.0.0.1:${port}`,
    port,
    child: undefined as never,
    start: async () => {
      const child = new Child('nats-server', ['-a', '127.0.0.1', '-p', String(port), ...args])
      server.child = child
      await until(() => {
        if (!child.running) throw new Error(child.stderr)
        return child.stderr.includes('Server is ready')
      })
    },
  }
  await server.start()
  t.teardown(() => server.child.ended())
  return server
}

/** A way to a server that can be cut for a while without an end of its connections, as a network does it. */
export class Way {
  readonly url: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #cut = false

  static async to(t: ExecutionContext, port: number): Promise<Way> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const way = new Way(server, port)
    t.teardown(() => way.#end())
    return way
  }

  private constructor(server: Server, port: number) {
    this.url = `nats://127.0.0.1:${(server.address() as { port: number }).port}`
    this.#server = server
    server.on('connection', (near) => {
      const far = connect(port, '127.0.0.1')
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from)
        if (this.#cut) from.pause()
        from.on('data', (data) => to.write(data))
        from.on('error', () => to.destroy())
        from.on('close', () => {
          this.#sockets.delete(from)
          to.destroy()
        })
      }
    })
  }

  /** Nothing passes any more, and nobody is told. */
  cut(): void {
    this.#cut = true
    for (const socket of this.#sockets) socket.pause()
  }

  /** All of it passes again. */
  mend(): void {
    this.#cut = false
    for (const socket of this.#sockets) socket.resume()
  }

  #end(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}
