/**
 * Which rungs of the acquisition ladder this run is about. `RINGBELL_TEST_RUNG` or `IPC_BUS_ACQUIRE` name one;
 * `RINGBELL_TEST_SYSCALLS` says that we run under a table of oldsys, where direct cannot be had.
 */
import type { Rung } from 'ringbell'

const wanted = process.env['RINGBELL_TEST_RUNG'] ?? process.env['IPC_BUS_ACQUIRE'] ?? 'auto'

/** No `pidfd_getfd` here. */
export const withoutDirect = process.env['RINGBELL_TEST_SYSCALLS'] !== undefined

/** The environment forces a rung for who leaves the choice to the ladder. */
export const forcedByEnvironment = (process.env['IPC_BUS_ACQUIRE'] ?? 'auto') !== 'auto'

/** What the shared suite runs on. */
export const rungs: readonly Exclude<Rung, 'stream'>[] = (['direct', 'handshake'] as const).filter(
  (rung) => (wanted === 'auto' || wanted === rung) && !(rung === 'direct' && withoutDirect),
)
