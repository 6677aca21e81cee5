/**
 * A listening TCP socket handed to another process, which Node itself cannot do between processes that did not fork each
 * other: the process that holds it accepts. The connections that wait in its queue are not lost. Run: node examples/pass-socket.mjs
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Bus } from 'ringbell'

if (process.argv[2] === 'receiver') await receive()
else await send()

/** The successor: asks for the socket, and serves on it. */
async function receive() {
  const bus = await Bus.open()
  const connection = await (await bus.connect('example.handover')).connected()
  const { data, fds } = await connection.receiveFds()
  const server = createServer((socket) => socket.end(`process ${process.pid} answers\n`))
  server.listen({ fd: fds[0] })
  await once(server, 'listening')
  console.log(`receiver: got '${Buffer.from(data)}' and serves on it`)
  process.once('disconnect', () => process.exit())
}

/** Opens the socket, gives it away, and closes its own. */
async function send() {
  const bus = await Bus.open()
  const successor = await bus.serve('example.handover')
  const child = fork(fileURLToPath(import.meta.url), ['receiver'])
  const [connection] = await once(successor, 'connected')

  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address()
  // Node has no public word for a server's descriptor.
  await connection.sendFds(Buffer.from('the web socket'), [listener._handle.fd])
  listener.close()

  const client = connect(port, '127.0.0.1')
  client.setEncoding('utf8')
  const [answer] = await once(client, 'data')
  const theirs = answer.includes(String(child.pid))
  console.log(`sender:   we closed it, and ${theirs ? 'the other process' : 'somebody else'} answers`)
  child.disconnect()
  await once(child, 'exit')
  await bus.close()
}
