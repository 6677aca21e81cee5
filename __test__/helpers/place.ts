/**
 * A private bus directory for one test, and its end: whatever was opened is closed, and the test fails if a record or a
 * socket is left. Waits have no deadline of their own: the test's watchdog (`t.timeout`) is the one that barks.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { Bus, type BusOptions } from 'ringbell'
import { PATIENCE_MS } from './patience.js'

export interface Place {
  /** The bus directory. */
  readonly path: string
  /** Opens a bus there; the teardown closes it. */
  bus(options?: BusOptions): Promise<Bus>
  /** What lies in the directory, without the dot-files of others' work in progress, and without the files of claims and locks, which stay. */
  files(): string[]
  /** Something else to end before the directory is looked at. */
  onEnd(end: () => unknown): void
}

export function place(t: ExecutionContext, options: { untidy?: boolean } = {}): Place {
  const path = mkdtempSync(join(tmpdir(), 'ringbell-test-'))
  const buses: Bus[] = []
  const ends: (() => unknown)[] = []
  const left = (): string[] => readdirSync(path).filter((name) => !name.endsWith('.claim') && name !== '.sync')
  const files = (): string[] => left().filter((name) => !name.startsWith('.'))
  t.timeout(PATIENCE_MS)
  t.teardown(async () => {
    for (const end of ends.reverse()) await end()
    for (const bus of buses) await bus.close()
    const behind = options.untidy === true ? [] : left()
    rmSync(path, { recursive: true, force: true })
    if (behind.length > 0) throw new Error(`left behind: ${behind.join(', ')}`)
  })
  return {
    path,
    files,
    async bus(more = {}) {
      const bus = await Bus.open({ path, ...more })
      buses.push(bus)
      return bus
    },
    onEnd: (end) => ends.push(end),
  }
}

/**
 * What an attempt gives, as soon as that is neither `undefined` nor `false`. It is made again and again, with the event loop free in
 * between.
 */
export async function until<T>(attempt: () => T | Promise<T>): Promise<Exclude<T, undefined | false>> {
  for (;;) {
    const got = await attempt()
    if (got !== undefined && got !== false) return got as Exclude<T, undefined | false>
    await new Promise((done) => setTimeout(done, 1))
  }
}

/** The `code` of what a call throws or rejects with; `undefined` when it does neither. */
export async function codeOf(call: () => unknown): Promise<string | undefined> {
  try {
    await call()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
