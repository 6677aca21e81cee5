/** Tests with other users, real ones: children become them, which takes root. Elsewhere they say that they did not; CI runs as root. */
import test, { type ExecutionContext } from 'ava'

export const GUEST = 40_002
export const STRANGER = 40_003

export function asRoot(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  test(title, async (t) => {
    if (process.getuid?.() === 0) return body(t)
    console.error(`*** NOT TESTED, because only root can become another user: ${title} ***`)
    t.pass()
  })
}
