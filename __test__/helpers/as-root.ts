/** Tests with real other users. Children become them, which only root can do. Without root they are skipped; CI runs as root. */
import test, { type ExecutionContext } from 'ava'

export const GUEST = 40_002
export const STRANGER = 40_003

const root = process.getuid?.() === 0

export function asRoot(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (!root) console.error(`*** NOT TESTED, because only root can become another user: ${title} ***`)
  const testOrSkip = root ? test : test.skip
  testOrSkip(title, body)
}
