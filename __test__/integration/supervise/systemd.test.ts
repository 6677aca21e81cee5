/** Socket activation as systemd does it: descriptors from 3 on, and an environment that is meant for one process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { PATIENCE_MS } from '../../helpers/patience.js'
import { folder } from '../../helpers/scratch.js'

const FIXTURE = fileURLToPath(new URL('../../fixtures/listen.mjs', import.meta.url))

interface Told {
  what: string
  sockets: { fd: number; name: string }[]
  left: string[]
  endpoints: Record<string, string>
}

interface Started {
  told: Told
  port: number
  readonly end: () => Promise<void>
}

/** Starts the fixture with a socket as descriptor 3. The shell knows the pid that it will have. */
async function started(t: ExecutionContext, variables: string, path?: string): Promise<Started> {
  const server = createServer().listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path })
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle
  const child: ChildProcess = spawn(
    '/bin/sh',
    ['-c', `${variables} exec "$0" "$1" inherited`, process.execPath, FIXTURE],
    {
      stdio: ['ignore', 'inherit', 'inherit', fd, 'ipc'],
      env: { ...process.env, IPC_BUS_DIR: folder(t) },
      timeout: PATIENCE_MS,
    },
  )
  // From now on the child alone has the socket.
  server.close()
  const [told] = (await once(child, 'message')) as [Told]
  const end = async (): Promise<void> => {
    child.kill('SIGKILL')
    await once(child, 'close')
  }
  return { told, port, end }
}

test('a server listens on the socket that it was started with, and is announced there', async (t) => {
  const { told, port, end } = await started(t, 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=api.socket')
  t.deepEqual(told.sockets, [{ fd: 3, name: 'api.socket' }])
  t.deepEqual(told.left, [], 'programs that it starts do not take them for their own')
  t.deepEqual(told.endpoints, { http: `tcp://127.0.0.1:${port}` })
  const [text] = (await once(connect(port, '127.0.0.1'), 'data')) as [Buffer]
  t.is(text.toString(), 'hello')
  await end()
})

test('the path of a Unix socket is known, although Node does not know it', async (t) => {
  const path = join(folder(t), 'api.sock')
  const { told, end } = await started(t, 'LISTEN_PID=$$ LISTEN_FDS=1', path)
  t.deepEqual(told.sockets, [{ fd: 3, name: 'unknown' }])
  t.deepEqual(told.endpoints, { http: `unix:${path}` })
  await end()
})

test('sockets of another process, and wrong numbers, are no sockets', async (t) => {
  for (const variables of ['LISTEN_PID=1 LISTEN_FDS=1', 'LISTEN_PID=$$ LISTEN_FDS=many', 'LISTEN_FDS=1']) {
    const { told, end } = await started(t, variables)
    t.deepEqual(told.sockets, [], variables)
    await end()
  }
})
