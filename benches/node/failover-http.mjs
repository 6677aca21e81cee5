// The one process of a rival: an HTTP server on a Unix socket that answers with its pid.

import cluster from 'node:cluster'
import { rmSync } from 'node:fs'
import http from 'node:http'

// In a cluster the manager holds the socket.
if (!cluster.isWorker) rmSync(process.env.SOCKET, { force: true })
const answer = JSON.stringify({ pid: process.pid })
http.createServer((_request, response) => response.end(answer)).listen(process.env.SOCKET)
