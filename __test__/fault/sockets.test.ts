/** What lies in the way of a server's socket: links, files and sockets of others; and servers that do not accept or do not answer. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { canConnect, listenUnix } from 'ringbell'
import { asRoot, GUEST } from '../helpers/as-root.js'
import { peer } from '../helpers/peer.js'
import { codeOf, place } from '../helpers/place.js'
import { folder } from '../helpers/scratch.js'

async function refused(
  t: ExecutionContext,
  path: string,
  message: RegExp,
  code = 'ERR_RINGBELL_SYSTEM',
): Promise<void> {
  const server = createServer()
  await t.throwsAsync(() => listenUnix(server, path), { code, message })
  t.false(server.listening)
}

test('nothing but a socket is replaced', async (t) => {
  const path = join(folder(t), 'api.sock')
  const elsewhere = join(path, '../elsewhere')
  writeFileSync(elsewhere, 'precious')
  symlinkSync(elsewhere, path)
  await refused(t, path, /is no socket; remove it/)
  t.true(lstatSync(path).isSymbolicLink())
  unlinkSync(path)
  writeFileSync(path, 'precious')
  await refused(t, path, /is no socket; remove it/)
  t.is(readFileSync(path, 'utf8'), 'precious')
  unlinkSync(path)
  mkdirSync(path)
  await refused(t, path, /is no socket; remove it/)
})

test('what lies in place of the lock or of the directory is not used', async (t) => {
  const path = join(folder(t), 'api.sock')
  const beside = (ending: string): string => join(path, `../.api.sock${ending}`)
  symlinkSync('/dev/null', beside('.lock'))
  await refused(t, path, /\.api\.sock\.lock is no regular file/)
  unlinkSync(beside('.lock'))
  mkdirSync(beside('.lock'))
  await refused(t, path, /\.api\.sock\.lock is no regular file/)
  const other = join(path, '../other.sock')
  symlinkSync('/tmp', join(path, '../.other.sock.new'))
  await refused(t, other, /\.other\.sock\.new is no directory/)
  unlinkSync(join(path, '../.other.sock.new'))
  mkdirSync(join(path, '../.other.sock.new'))
  chmodSync(join(path, '../.other.sock.new'), 0o777)
  await refused(t, other, /\.other\.sock\.new is no private directory/)
  await refused(t, join(path, '../nowhere/api.sock'), /Cannot open the directory/)
})

test('what a killed process left half done is used by the next one', async (t) => {
  const path = join(folder(t), 'api.sock')
  mkdirSync(join(path, '../.api.sock.new'), { mode: 0o700 })
  writeFileSync(join(path, '../.api.sock.new/s'), '')
  const server = createServer()
  await listenUnix(server, path)
  t.teardown(() => server.close())
  t.true(await canConnect(path))
  t.false(existsSync(join(path, '../.api.sock.new')))
})

test('a directory that was removed and made anew, as RuntimeDirectory is, belongs to the next server', async (t) => {
  const directory = join(folder(t), 'run')
  const path = join(directory, 'api.sock')
  mkdirSync(directory)
  const [old, next] = [createServer(), createServer()]
  t.teardown(() => next.close())
  await listenUnix(old, path)
  rmSync(directory, { recursive: true })
  mkdirSync(directory)
  await listenUnix(next, path)
  old.close()
  await once(old, 'close')
  t.true(await canConnect(path), 'the old one removes only its own file')
})

asRoot('what belongs to another user is neither replaced nor trusted', async (t) => {
  const at = place(t)
  const path = join(folder(t), 'api.sock')
  chmodSync(join(path, '..'), 0o1777)
  const squatter = peer(at, 'listen.mjs', [path, '{"mode":438}'], { env: { RINGBELL_TEST_UID: String(GUEST) } })
  await squatter.tells('listening')
  await refused(t, path, /\.lock belongs to another user/, 'ERR_RINGBELL_NO_PERMISSION')
  await squatter.ended()
  unlinkSync(join(path, '../.api.sock.lock'))
  await refused(t, path, /api\.sock belongs to another user/, 'ERR_RINGBELL_NO_PERMISSION')
  unlinkSync(path)
  mkdirSync(join(path, '../.api.sock.new'), { mode: 0o700 })
  chownSync(join(path, '../.api.sock.new'), GUEST, GUEST)
  await refused(t, path, /\.new belongs to another user/, 'ERR_RINGBELL_NO_PERMISSION')
})

test('a server that is stopped, and whose backlog is full, is alive', async (t) => {
  const at = place(t)
  const path = join(folder(t), 'api.sock')
  const server = peer(at, 'full.mjs', [path])
  await server.tells('listening')
  await server.stop()
  const waiting: Socket[] = []
  t.teardown(() => waiting.forEach((socket) => socket.destroy()))
  for (;;) {
    const socket = connect(path)
    waiting.push(socket)
    const [first] = await Promise.race([once(socket, 'connect'), once(socket, 'error')]).catch((error: unknown) => [
      error,
    ])
    if ((first as { code?: string } | undefined)?.code === 'EAGAIN') break
  }
  t.true(await canConnect(path))
  await refused(t, path, /Another process listens/)
})

test('a port that does not answer is given up after the timeout', async (t) => {
  // It is stopped, so nobody takes connections, and its queue holds two.
  const program = `require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    console.log(this.address().port)
  })`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [told] = (await once(child.stdout, 'data')) as [Buffer]
  const port = Number(told.toString())
  child.kill('SIGSTOP')
  for (let waiting = 0; waiting < 2; waiting++) {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
  }
  const address = `tcp://127.0.0.1:${port}`
  t.false(await canConnect(address, { timeout: 50 }))
  t.is(await codeOf(() => canConnect(address, { signal: AbortSignal.abort() })), 'ABORT_ERR')
})
