/** How a command ends for which something is held. */
import { spawn } from 'node:child_process'
import test from 'ava'
import { exitOf } from '../../../src/cli/guarded-command.js'

test('a signal that cannot be sent is no end of the command', async (t) => {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  const ended = exitOf(child)
  let over = false
  void ended.then(
    () => (over = true),
    () => (over = true),
  )
  // As `kill` does for a process of another user.
  child.emit('error', Object.assign(new Error('kill EPERM'), { code: 'EPERM', syscall: 'kill' }))
  await new Promise(setImmediate)
  t.false(over)
  child.stdin.end()
  t.deepEqual(await ended, [0, null])
})

test('a command that cannot be started fails', async (t) => {
  await t.throwsAsync(exitOf(spawn('/no/such/command')), { message: /ENOENT/ })
})
