/** Addresses are understood completely, or not at all: they end up in configuration files. */
import test from 'ava'
import { authority, parseAddress } from '../../../src/export/address.js'

const port = (host: string, number: number, secure = false, path = '') => ({ host, port: number, secure, path })

for (const [text, address] of [
  ['unix:/run/api.sock', { unix: '/run/api.sock' }],
  ['unix:///run/api.sock', { unix: '/run/api.sock' }],
  ['http:unix:/run/api.sock', { unix: '/run/api.sock' }],
  ['/run/api.sock', { unix: '/run/api.sock' }],
  ['unix:@api', { unix: '@api' }],
  ['127.0.0.1:8080', port('127.0.0.1', 8080)],
  ['tcp://127.0.0.1:8080', port('127.0.0.1', 8080)],
  ['tcp:127.0.0.1:8080', port('127.0.0.1', 8080)],
  ['http://127.0.0.1', port('127.0.0.1', 80)],
  ['https://[::1]/metrics?a=1', port('::1', 443, true, '/metrics?a=1')],
  ['http://api.internal:1/', port('api.internal', 1)],
  ['http://localhost:3000', port('127.0.0.1', 3000)],
  ['http://0.0.0.0:3000', port('127.0.0.1', 3000)],
  ['http://[::]:3000', port('::1', 3000)],
] as const)
  test(`the address ${text}`, (t) => t.deepEqual(parseAddress(text), address))

for (const text of [
  '',
  'unix:',
  'unix:relative.sock',
  'unix:/run/a b.sock',
  'unix:/run/a;}\nevil {',
  'unix:/run/$host',
  `unix:/${'x'.repeat(107)}`,
  `unix:/run/${'x'.repeat(2000)}`,
  '127.0.0.1',
  '127.0.0.1:0',
  '127.0.0.1:65536',
  '999.0.0.1:80',
  '1.2.3:80',
  'host name:80',
  'http://user:secret@host:80',
  'http://host:80/a b',
  'http://host:80/#x',
  'http://[zz]:80',
  'ftp://host:80',
  'tcp://host',
])
  test(`no address: ${JSON.stringify(text.slice(0, 40))}`, (t) => t.is(parseAddress(text), undefined))

test('an IPv6 address has brackets where a port follows', (t) => {
  t.is(authority(port('::1', 80)), '[::1]:80')
  t.is(authority(port('127.0.0.1', 80)), '127.0.0.1:80')
})
