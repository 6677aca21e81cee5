/** Directories of long paths: the one that is there now, and no descriptor for those that nobody names. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { LongPaths } from '../../../src/announce/long-paths.js'
import { folder } from '../../helpers/scratch.js'

function made(directory: string, text: string): void {
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'api.sock'), text)
}

test.serial('a directory that was removed and made again is found', (t) => {
  const directory = join(folder(t), 'd'.repeat(120))
  const path = join(directory, 'api.sock')
  const paths = new LongPaths(() => [path])
  made(directory, 'first')
  t.is(readFileSync(paths.shortened(path), 'utf8'), 'first')
  t.is(paths.shortened(path), paths.shortened(path))
  // The old one lives on, so that the new one cannot have its inode.
  renameSync(directory, `${directory}-old`)
  t.throws(() => paths.shortened(path), { code: 'ENOENT' })
  made(directory, 'second')
  t.is(readFileSync(paths.shortened(path), 'utf8'), 'second')
  paths.close()
})

test.serial('the directories that no record names are closed', (t) => {
  const root = folder(t)
  const open = (): number => readdirSync('/proc/self/fd').length
  const before = open()
  let named: string[] = []
  const paths = new LongPaths(() => named)
  for (let n = 0; n < 5; n++) {
    const directory = join(root, `${n}`.padEnd(120, 'd'))
    made(directory, String(n))
    named = [join(directory, 'api.sock')]
    t.is(readFileSync(paths.shortened(join(directory, 'api.sock')), 'utf8'), String(n))
    rmSync(directory, { recursive: true })
  }
  t.is(open(), before + 1)
  paths.close()
  t.is(open(), before)
})
