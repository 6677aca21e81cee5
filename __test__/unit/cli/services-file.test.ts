/** The file of services: what it may look like, and where each error is. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readServices } from '../../../src/cli/services-file.js'
import { checkGroup } from '../../../src/supervise/group-options.js'
import { folder } from '../../helpers/scratch.js'

test('what is wrong with a file is told with line and column', (t) => {
  const file = join(folder(t), 'services.yaml')
  for (const [text, place, words] of [
    ['services:\n  a: [\n', '3:1', 'Flow sequence'],
    ['service: {}', '1:1', 'service is not known'],
    ['services:\n  price:\n    command: node x\n    replicas: many\n', '4:15', 'replicas'],
    ['services:\n  price:\n    command: node x\n    grace: soon\n', '4:12', 'duration'],
    ['services:\n  price:\n    command: node x\n    replica: 3\n', '4:5', 'replica is not known'],
    ['services:\n  price:\n    replicas: 3\n', '2:3', 'command'],
    ['services:\n  price:\n    command: sh -c "x y"\n', '3:14', 'list of words'],
    ['services:\n  price:\n    command: []\n', '3:14', 'command'],
    ['services:\n  price:\n    command: x\n    grace: 3000\n', '4:12', '3000ms or 3000s'],
    ['services:\n  price:\n    command: x\n    env: { A: [b] }\n', '4:15', 'env.A must be a text'],
    ['services:\n  price:\n    command: x\n    log: ""\n', '4:10', 'path of a file'],
    ['services:\n  a: *b\n', '2:6', '*b names nothing'],
    ['services: &s\n  a: *s\n', '2:6', '*s is a part of what it names'],
    ['services:\n  a: { <<: x }\n', '2:12', '<< must have a map'],
    ['services: {}\n---\nservices: {}\n', '2:1', 'several documents'],
    ['shared: {}\nservices: {}\n', '1:1', 'x-'],
    ['services:\n  a: { command: x, dependsOn: [b] }\n', '2:31', "'b'"],
    ['services:\n  a: { command: x, dependsOn: [b] }\n  b: { command: x, dependsOn: [a] }\n', '2:31', 'circle'],
    ['services:\n  no name: { command: x }\n', '2:3', 'name'],
  ] as const) {
    writeFileSync(file, text)
    const error = t.throws(() => readServices(file, checkGroup), { code: 'ERR_RINGBELL_INVALID_OPTION' }, text)
    t.true(error?.message.startsWith(`${file}:${place}: `), error?.message)
    t.true(error?.message.includes(words), error?.message)
  }
  for (const [path, words] of [
    ['/no/such/file', 'there is no such file'],
    ['/', 'it is a folder'],
  ] as const)
    t.throws(() => readServices(path, checkGroup), {
      code: 'ERR_RINGBELL_INVALID_OPTION',
      message: `Cannot read '${path}': ${words}`,
    })
})

test('times have a unit, or are none', (t) => {
  const file = join(folder(t), 'services.yaml')
  writeFileSync(file, 'services: { a: { command: x y, grace: 0, minUptime: 1.5s, heartbeat: { interval: 250ms } } }')
  t.deepEqual(readServices(file, checkGroup), [
    {
      options: { service: 'a', command: 'x', args: ['y'], grace: 0, minUptime: 1500, heartbeat: { interval: 250 } },
      dependsOn: [],
    },
  ])
})
