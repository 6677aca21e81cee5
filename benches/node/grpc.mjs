// Rival: @grpc/grpc-js over a Unix socket, unary calls. Its messages are bare bytes: no protobuf is encoded or decoded,
// which favours the rival.

import { Client, Server, ServerCredentials, credentials } from '@grpc/grpc-js'

const at = (job) => `unix:${job.address}/calls.sock`
const PATH = '/bench.Calls/Call'
const bytes = (message) => Buffer.from(message.buffer, message.byteOffset, message.byteLength)
const same = (message) => message
const limits = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 }

export async function serve(job, answer) {
  const server = new Server(limits)
  const method = {
    path: PATH,
    requestStream: false,
    responseStream: false,
    requestDeserialize: same,
    responseSerialize: bytes,
    requestSerialize: bytes,
    responseDeserialize: same,
  }
  server.addService({ call: method }, { call: ({ request }, reply) => reply(null, answer(request)) })
  await new Promise((resolve, reject) =>
    server.bindAsync(at(job), ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve())),
  )
}

export async function connect(job) {
  // A pool of its own: clients of one process would share a connection otherwise.
  const options = { ...limits, 'grpc.use_local_subchannel_pool': 1 }
  const client = new Client(at(job), credentials.createInsecure(), options)
  return {
    call: (request) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(PATH, bytes, same, request, (error, reply) => (error ? reject(error) : resolve(reply)))
      }),
  }
}
