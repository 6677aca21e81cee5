/**
 * Which rungs of the acquisition ladder this run is about. `RINGBELL_TEST_RUNG` or `IPC_BUS_ACQUIRE` name one;
 * `RINGBELL_TEST_SYSCALLS` says that we run under a table of oldsys: where direct cannot be had, or no memory can be shared.
 */
import type { Rung } from 'ringbell'

const wanted = process.env['RINGBELL_TEST_RUNG'] ?? process.env['IPC_BUS_ACQUIRE'] ?? 'auto'

/** No `pidfd_getfd` here. */
export const withoutDirect = process.env['RINGBELL_TEST_SYSCALLS'] !== undefined

/** No memfd here, so no shared memory (`oldsys memfd_create=…`). */
export const withoutMemory = (process.env['RINGBELL_TEST_SYSCALLS'] ?? '').startsWith('memfd_create=')

/** The environment forces a rung for who leaves the choice to the ladder. */
export const forcedByEnvironment = (process.env['IPC_BUS_ACQUIRE'] ?? 'auto') !== 'auto'

/** What the shared suite runs on. */
export const rungs: readonly Rung[] = (['direct', 'handshake', 'stream'] as const).filter(
  (rung) =>
    (wanted === 'auto' || wanted === rung) &&
    !(rung === 'direct' && withoutDirect) &&
    !(rung !== 'stream' && withoutMemory),
)

/** The lifetimes that batches can have on this rung: what comes over a stream lies in no memory that could be lent. */
export const lifetimes = (rung: Rung): readonly ('owned' | 'borrowed' | 'lease')[] =>
  rung === 'stream' ? ['owned', 'borrowed'] : ['owned', 'borrowed', 'lease']
