/** Tests with other users, real ones: children become them, which takes root. Elsewhere they are skipped, and say why; CI runs as root. */
import test, { type ExecutionContext } from 'ava'

export const GUEST = 40_002
export const STRANGER = 40_003

const root = process.getuid?.() === 0

export function asRoot(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (!root) console.error(`*** NOT TESTED, because only root can become another user: ${title} ***`)
  const testOrSkip = root ? test : test.skip
  testOrSkip(title, body)
}
