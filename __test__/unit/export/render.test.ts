/** The formats: what the file of each says, and what it leaves out. */
import test from 'ava'
import type { Service } from 'ringbell'
import { exportFormats, render } from 'ringbell/export'
import { serviceOf } from '../../../src/bus/service.js'
import { renderer } from '../../../src/export/render.js'

let made = 0

function service(name: string, endpoints: Record<string, string>, more: Record<string, unknown> = {}): Service {
  const id = String(++made).padStart(32, '0')
  return serviceOf({ service: name, id, kind: 'service', pid: 7, uid: 0, protocol: 1, endpoints, ...more })
}

const labels = (text: string): Record<string, string>[] =>
  (JSON.parse(text) as { labels: Record<string, string> }[]).map((one) => one.labels)

test('nginx: an upstream for each service, with weights, backups and what takes no requests', (t) => {
  const text = render(
    [
      service('web', { http: 'unix:/run/web.sock' }, { metadata: { weight: 3 } }),
      service('web', { http: 'http://127.0.0.1:8080' }, { metadata: { backup: true } }),
      service('web', { http: 'http://[::1]:8081', metrics: 'http://[::1]:9' }, { metadata: { weight: 0 } }),
      service('api', { control: '127.0.0.1:99' }, { metadata: { weight: 'heavy' } }),
    ],
    'nginx',
  )
  t.is(
    text,
    `# Written by ringbell export. Changes are lost.

upstream api {
    server 127.0.0.1:99;
}

upstream web {
    server unix:/run/web.sock weight=3;
    server 127.0.0.1:8080 backup;
    server [::1]:8081 down;
}
`,
  )
})

test('an instance whose health check fails gets no requests', (t) => {
  const failing = service('web', { http: 'http://127.0.0.1:1' }, { metadata: { health: 'failing', weight: 3 } })
  const passing = service('web', { http: 'http://127.0.0.1:2' }, { metadata: { health: 'passing' } })
  t.regex(render([failing, passing], 'nginx'), /server 127\.0\.0\.1:1 down;\n {4}server 127\.0\.0\.1:2;/)
  t.is(render([failing, passing], 'env'), 'WEB_HTTP=http://127.0.0.1:2\nWEB_HTTP_ALL=http://127.0.0.1:2\n')
  t.regex(render([failing], 'hosts'), /^#.*\n$/)
})

test('nginx: standbys of a service group are backups of its primary, and servers while there is none', (t) => {
  const primary = service('db', { http: '127.0.0.1:1' }, { group: { role: 'primary', epoch: 2 } })
  const standby = service('db', { http: '127.0.0.1:2' }, { group: { role: 'standby', epoch: 1 } })
  t.regex(render([standby, primary], 'nginx'), /server 127\.0\.0\.1:1;\n {4}server 127\.0\.0\.1:2 backup;/)
  t.regex(render([standby], 'nginx'), /\{\n {4}server 127\.0\.0\.1:2;\n\}/)
})

test('nginx: a name that was asked for is an upstream, also while nobody has it', (t) => {
  t.regex(render([], 'nginx', { services: 'web' }), /upstream web \{\n {4}server 127\.0\.0\.1:1 down;\n\}/)
  t.notRegex(render([], 'nginx', { services: 'web*' }), /upstream/)
})

test('nginx: what it would refuse is left out, and nothing can be smuggled in', (t) => {
  const evil = ['unix:@abstract', 'http://no.such.host:80', 'unix:/run/x;} http { #', '127.0.0.1:80;', 'x']
  const { text, leftOut } = renderer('nginx')(evil.map((http) => service('web', { http })))
  t.is(text, '# Written by ringbell export. Changes are lost.\n')
  t.is(leftOut.length, evil.length)
  t.true(leftOut.every(({ reason }) => reason.length > 10))
})

test('prometheus: targets, and labels from the metadata', (t) => {
  const text = render(
    [
      service(
        'app',
        { http: '127.0.0.1:80', metrics: 'https://127.0.0.1:9100/probe?x=1' },
        {
          metadata: {
            zone: 'a',
            'data-center': 1,
            '9lives': true,
            __address__: 'evil',
            nested: { a: 1 },
            '': 'x',
            service: 'evil',
          },
          group: { role: 'primary', epoch: 1 },
        },
      ),
    ],
    'prometheus',
  )
  t.deepEqual(JSON.parse(text), [
    {
      targets: ['127.0.0.1:9100'],
      labels: {
        zone: 'a',
        data_center: '1',
        _9lives: 'true',
        service: 'app',
        __meta_ringbell_id: String(made).padStart(32, '0'),
        __meta_ringbell_kind: 'service',
        __meta_ringbell_pid: '7',
        __meta_ringbell_role: 'primary',
        __scheme__: 'https',
        __metrics_path__: '/probe',
      },
    },
  ])
  t.is(render([service('app', { http: 'unix:/run/app.sock' })], 'prometheus'), '[]\n')
  t.is(labels(render([service('app', { http: 'api:80' })], 'prometheus')).length, 1)
})

test('env: the first address and all of them, fit for a shell', (t) => {
  const text = render(
    [
      service('my.api', { http: 'unix:/run/a.sock' }, { group: { role: 'standby', epoch: 1 } }),
      service('my.api', { http: "http://h:1/it's" }, { group: { role: 'primary', epoch: 2 } }),
      service('my-api', { http: '127.0.0.1:3' }),
      service('9', { 'a b': '127.0.0.1:4' }),
      service('bad', { http: 'two words' }),
    ],
    'env',
  )
  t.is(
    text,
    [
      '_9_A_B=127.0.0.1:4',
      '_9_A_B_ALL=127.0.0.1:4',
      // my.api would have the same name.
      'MY_API_HTTP=127.0.0.1:3',
      'MY_API_HTTP_ALL=127.0.0.1:3',
      '',
    ].join('\n'),
  )
  const both = render(
    [
      service('api', { http: 'unix:/run/a.sock' }, { group: { role: 'standby', epoch: 1 } }),
      service('api', { http: "http://h:1/it's" }, { group: { role: 'primary', epoch: 2 } }),
    ],
    'env',
  )
  t.is(both, `API_HTTP='http://h:1/it'\\''s'\nAPI_HTTP_ALL='http://h:1/it'\\''s unix:/run/a.sock'\n`)
})

test('nginx: of names that are the same to it only one is written, and the one that was asked for first', (t) => {
  const [upper, lower] = [service('API', { http: '127.0.0.1:1' }), service('api', { http: '127.0.0.1:2' })]
  const { text, leftOut } = renderer('nginx')([lower, upper])
  t.deepEqual(text.match(/upstream \w+/g), ['upstream API'])
  t.like(leftOut, [{ service: { name: 'api' } }])
  t.regex(leftOut[0]?.reason ?? '', /API, which is the same name/)
  const named = render([lower, upper], 'nginx', { services: ['*', 'api'] })
  t.deepEqual(named.match(/upstream \w+/g), ['upstream api'])
  t.deepEqual(render([], 'nginx', { services: ['Api', 'api'] }).match(/upstream \w+/g), ['upstream Api'])
})

test('env and hosts: what could lead programs astray is written only for a service that is named', (t) => {
  const env = [
    service('node', { options: '127.0.0.1:1' }),
    service('LD', { PRELOAD: '/tmp/evil.so' }),
    service('bash', { env: '/tmp/evil.sh' }),
    service('https', { proxy: 'http://127.0.0.1:1' }),
    service('db', { sql: 'postgres://db/x' }),
  ]
  const { text, leftOut } = renderer('env')(env)
  t.is(text, '')
  t.deepEqual(
    leftOut.map(({ reason }) => reason.split(' ')[0]),
    ['LD_PRELOAD', 'BASH_ENV', '"postgres://db/x"', 'HTTPS_PROXY', 'NODE_OPTIONS'],
  )
  t.regex(render(env, 'env', { services: ['node', 'db', 'l*'] }), /^DB_SQL=.*\nDB_SQL_ALL=.*\nNODE_OPTIONS=.*\n.*\n$/)
  const hosts = ['github.com', 'localhost', 'LOCALHOST', 'plain'].map((name) => service(name, { http: '127.0.0.2:1' }))
  t.is(render(hosts, 'hosts'), '# Written by ringbell export. Changes are lost.\n127.0.0.2 plain\n')
  t.regex(render(hosts, 'hosts', { services: ['github.com'] }), /\n127\.0\.0\.2 github\.com\n/)
})

test('json and hosts', (t) => {
  const some = [
    service('web', { http: 'http://127.0.0.2:80', other: '127.0.0.2:81' }, { metadata: { a: 1 } }),
    service('sock', { http: 'unix:/run/sock' }),
    service('silent', {}),
  ]
  const parsed = JSON.parse(render(some, 'json')) as Record<string, { endpoints: object; metadata: object }[]>
  t.deepEqual(Object.keys(parsed), ['sock', 'web'])
  t.like(parsed['web']?.[0], { kind: 'service', pid: 7, endpoints: some[0]?.endpoints, metadata: { a: 1 } })
  t.is(render(some, 'hosts'), '# Written by ringbell export. Changes are lost.\n127.0.0.2 web\n')
})

test('services are chosen by name and pattern, endpoints by name, and the order is fixed', (t) => {
  const some = ['web', 'web.a', 'web.b', 'api'].map((name) =>
    service(name, { http: '127.0.0.1:1', other: '127.0.0.1:2' }),
  )
  const names = (services?: string | string[]): string[] =>
    Object.keys(JSON.parse(render(some.toReversed(), 'json', { services })) as object)
  t.deepEqual(names(), ['api', 'web', 'web.a', 'web.b'])
  t.deepEqual(names('web'), ['web'])
  t.deepEqual(names(['web.*', 'nobody']), ['nobody', 'web.a', 'web.b'])
  t.regex(render(some, 'nginx', { services: 'web', endpoint: 'other' }), /127\.0\.0\.1:2/)
  t.is(renderer('nginx', { endpoint: 'constructor' })(some).leftOut.length, some.length)
  const two = renderer('nginx')([service('x', { a: '127.0.0.1:1', b: '127.0.0.1:2' })])
  t.regex(two.leftOut[0]?.reason ?? '', /a, b/)
})

test('no services: every format is a whole file', (t) => {
  for (const format of exportFormats) t.is(typeof render([], format), 'string')
  t.deepEqual([render([], 'json'), render([], 'prometheus')], ['{}\n', '[]\n'])
})

test('wrong options', (t) => {
  const code = 'ERR_RINGBELL_INVALID_OPTION'
  t.throws(() => render([], 'xml' as never), { code, message: /'nginx'/ })
  t.throws(() => render([], 'json', { services: 'a b' }), { code })
  t.throws(() => render([], 'json', { services: [] }), { code })
  t.throws(() => render([], 'json', { endpoint: '' }), { code })
  t.throws(() => render([], 'json', { endpoints: 'http' } as never), { code })
})
