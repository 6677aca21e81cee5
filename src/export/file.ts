/**
 * A file that is replaced as a whole: the new text goes into a file beside it, which then takes its name. Who reads it sees the old text or
 * the new one. If anything fails, a full disk for example, the old file stays as it was, and nothing stays beside it. A link
 * stays a link: the file that it leads to is replaced. What is no regular file is refused. Nothing is synced to the disk, because the text can be made again at any time.
 */
import { randomBytes } from 'node:crypto'
import type { Stats } from 'node:fs'
import { type FileHandle, lstat, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { constants } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { debug } from '../diagnostics.js'
import { isRingbellError, RingbellError, type RingbellErrorCode } from '../errors.js'

const MODE = 0o7777
const CODES: Readonly<Record<string, RingbellErrorCode>> = {
  ENOSPC: 'ERR_RINGBELL_RESOURCE',
  EDQUOT: 'ERR_RINGBELL_RESOURCE',
  EMFILE: 'ERR_RINGBELL_RESOURCE',
  ENFILE: 'ERR_RINGBELL_RESOURCE',
  EACCES: 'ERR_RINGBELL_NO_PERMISSION',
  EPERM: 'ERR_RINGBELL_NO_PERMISSION',
  EROFS: 'ERR_RINGBELL_NO_PERMISSION',
}

/** The text of a file; `undefined` if there is none. Rejects with a `RingbellError`. */
export async function textOf(file: string): Promise<string | undefined> {
  try {
    // A pipe would be read for ever.
    refuseOthers(file, await stat(file))
    return await readFile(file, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fileError(file, error)
  }
}

/** Replaces a file, or makes it. Its mode and owner stay, if this process may set them. Rejects with a `RingbellError`. */
export async function replaceFile(file: string, text: string): Promise<void> {
  try {
    const before = await lookAt(file)
    const target = before?.isSymbolicLink() === true ? await targetOf(file) : file
    const old = target === file ? before : await lookAt(target)
    if (old?.isSymbolicLink() !== true) refuseOthers(file, old)
    await replace(target, text, old)
  } catch (error) {
    throw fileError(file, error)
  }
}

async function replace(target: string, text: string, before: Stats | undefined): Promise<void> {
  // Hidden, and with another ending: nobody who includes *.conf or *.json in this folder reads it.
  const fresh = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`)
  const handle = await open(fresh, 'wx')
  try {
    try {
      await handle.writeFile(text)
      if (before !== undefined) await likeBefore(handle, before)
    } finally {
      await handle.close()
    }
    await rename(fresh, target)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
}

async function lookAt(file: string): Promise<Stats | undefined> {
  try {
    return await lstat(file)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Where a link leads to. One that leads nowhere is replaced itself. */
async function targetOf(link: string): Promise<string> {
  try {
    return await realpath(link)
  } catch (error) {
    if (isMissing(error)) return link
    throw error
  }
}

async function likeBefore(handle: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  if (uid !== process.geteuid?.() || gid !== process.getegid?.())
    await handle.chown(uid, gid).catch((error: unknown) => {
      // Only root gives files away. The new text is worth more than the old owner.
      debug('the owner of a file: %s', error)
    })
  // After the owner, because a change of the owner takes away setuid.
  await handle.chmod(mode & MODE)
}

/** A device or a pipe (`/dev/null`) is for others, too: it must not become a file. */
function refuseOthers(file: string, before: Stats | undefined): void {
  if (before !== undefined && !before.isFile())
    throw new RingbellError(
      'ERR_RINGBELL_SYSTEM',
      `Cannot write ${file}, because it is no regular file; name another one.`,
    )
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

function fileError(file: string, cause: unknown): RingbellError {
  if (isRingbellError(cause)) return cause
  const { code = '', syscall } = cause as NodeJS.ErrnoException
  const number: number | undefined = constants.errno[code as keyof typeof constants.errno]
  return new RingbellError(
    CODES[code] ?? 'ERR_RINGBELL_SYSTEM',
    `Cannot write ${file} (${code === '' ? String(cause) : code}); what was there before is still there.`,
    { cause, syscall, errno: number === undefined ? undefined : -number },
  )
}
