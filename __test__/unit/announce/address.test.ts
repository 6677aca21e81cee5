import test from 'ava'
import { addressOf, targetOf } from '../../../src/announce/address.js'

test('a path becomes an address, and any other text stays as it is', (t) => {
  t.is(addressOf('/run/api.sock'), 'unix:/run/api.sock')
  t.is(addressOf('./api.sock'), `unix:${process.cwd()}/api.sock`)
  t.is(addressOf('unix:api.sock'), `unix:${process.cwd()}/api.sock`)
  t.is(addressOf('unix:///run/api.sock'), 'unix:/run/api.sock')
  for (const text of ['unix:@api', 'http://localhost:80', 'nats:anything', 'words', 'unix:'])
    t.is(addressOf(text), text)
})

test('an address says where to connect to, or it does not', (t) => {
  t.deepEqual(targetOf('unix:/run/api.sock'), { socketPath: '/run/api.sock' })
  t.deepEqual(targetOf('unix:@api'), { socketPath: '\0api' })
  t.deepEqual(targetOf('http://localhost'), { host: 'localhost', port: 80 })
  t.deepEqual(targetOf('https://localhost/path'), { host: 'localhost', port: 443 })
  t.deepEqual(targetOf('tcp://[::1]:5000'), { host: '::1', port: 5000 })
  for (const text of ['words', 'unix:', 'unix:api.sock', 'tcp://host', 'mailto:a@b', ''])
    t.is(targetOf(text), undefined)
})
