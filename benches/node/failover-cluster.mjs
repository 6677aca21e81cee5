// node:cluster with one worker, which is forked again when it has ended.

import cluster from 'node:cluster'

cluster.setupPrimary({ exec: new URL('failover-http.mjs', import.meta.url).pathname })
let going = true
cluster.on('exit', () => {
  if (going) cluster.fork()
})
cluster.fork()
function end() {
  going = false
  for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill('SIGKILL')
  process.exit()
}
process.stdin.once('data', end).once('end', end)
