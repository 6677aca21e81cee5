/**
 * A worker of node:cluster does not listen on descriptors of its own: Node asks the primary for them, which does not have them. What
 * listens on a descriptor asks here first, before it takes one.
 */
import { invalid } from './invalid.js'

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` in a worker of node:cluster. */
export async function refuseInClusterWorker(server: unknown): Promise<void> {
  // `server.listen` loads it in any case.
  const { default: cluster } = await import('node:cluster')
  if (!cluster.isWorker) return
  throw invalid(
    'server',
    server,
    'cannot listen in a worker of node:cluster; listen in a process that node:cluster has not started, such as an instance of ringbell run',
  )
}
