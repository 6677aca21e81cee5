// @ts-check
/**
 * A child's link to the demo's main process: orders come in, reports go out. When main goes, for whatever reason, so do we.
 * Only what is shown on the screen goes this way; the readings go through ringbell.
 */

/** What main started us with. */
export const busPath = process.argv[2] ?? ''

/** @param {object} report */
export function report(report) {
  if (process.connected) process.send?.(report)
}

/** @param {Record<string, () => unknown>} orders what to do on each */
export function onOrders(orders) {
  process.on('message', (/** @type {{ order: string }} */ { order }) => orders[order]?.())
}

process.once('disconnect', () => process.exit(1))
// Ctrl-C reaches the whole process group; main cleans up, so it decides when we end.
process.on('SIGINT', () => {})
