/** Every layer rule, broken once in a tree that is otherwise fine: it names the place, and nothing else complains. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { checkLayers } from '../../scripts/check-layers.mjs'

const CORE = 'crates/core/src'
const TOPIC = { [`${CORE}/topic/mod.rs`]: 'pub struct X;\n' }

const FINE: Record<string, string> = {
  'package.json': '{"version":"1.2.3"}',
  'Cargo.toml': '[workspace.package]\nversion = "1.2.3"\n',
  'npm/linux-x64-gnu/package.json': '{"version":"1.2.3"}',
  'crates/ring/Cargo.toml':
    '[dependencies]\n\n[target.\'cfg(loom)\'.dependencies]\nloom = "0.7"\n\n[dev-dependencies]\nproptest = "1"\n',
  'crates/ring/src/sync.rs': 'pub(crate) use core::sync::atomic::AtomicU64;\n',
  'crates/ring/src/memory.rs': 'unsafe fn read() {}\n',
  'crates/core/Cargo.toml': '[dependencies]\nringbell-ring.workspace = true\n',
  'crates/core/src/error.rs': 'pub const CODES: &[&str] = &["ERR_RINGBELL_A", "ERR_RINGBELL_B"];\n',
  'crates/core/src/sys/mod.rs': 'pub mod memfd;\n',
  'crates/core/src/sys/memfd.rs': '// crate::bus:: and napi:: in a comment\nunsafe { call() }\n',
  'crates/core/src/topic/acquire/tests/crowd.rs': 'unsafe { fork() }\n',
  'crates/core/src/bus/mod.rs': 'const TEXT: &str = "unsafe";\nuse std::sync::atomic::AtomicBool;\nuse view::View;\n',
  // A parent and its child may use each other; a test may use what stands above.
  'crates/core/src/bus/view.rs':
    'use super::Bus;\npub(in crate::topic) struct View;\n#[cfg(test)]\nmod tests {\n  use crate::doctor::Doctor;\n}\n',
  'crates/core/src/doctor/mod.rs': 'use crate::{bus::Bus, sys};\n',
  'crates/node/Cargo.toml': '[dependencies]\nnapi = "3"\n',
  'crates/node/src/buffer.rs': '#![allow(unsafe_code)]\nuse napi::sys;\nunsafe fn raw() {}\n',
  'src/errors.ts': "export const CORE_CODES = ['ERR_RINGBELL_A', 'ERR_RINGBELL_B']\n",
  'src/native.ts': "createRequire(import.meta.url)('../native/binding.cjs')\n",
  'src/index.ts': "export * from './bus/bus.ts'\n",
  'src/wait/poller.ts': "import '../native.ts'\n",
  'src/bus/bus.ts':
    "// import '../native/binding.cjs'\nimport '../topic/publisher.ts'\nimport '../channel/client.ts'\n",
  'src/bus/service.ts': 'export {}\n',
  'src/topic/publisher.ts': "import '../bus/service.ts'\nimport '../wait/poller.ts'\n",
  'src/channel/client.ts': "import '../bus/service.js'\n",
  'src/cli/main.ts': "import { Bus } from '../index.ts'\n",
}

/** What the rules say of the fine tree with some files replaced. */
function problems(changes: Record<string, string>): Record<string, string[]> {
  const root = mkdtempSync(join(tmpdir(), 'ringbell-layers-'))
  try {
    for (const [path, text] of Object.entries({ ...FINE, ...changes })) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    return Object.fromEntries(Object.entries(checkLayers(root)).filter(([, found]) => found.length > 0))
  } finally {
    rmSync(root, { recursive: true })
  }
}

/** The rule that is to complain, the change, and the place that it is to name. */
const BROKEN: [rule: string, changes: Record<string, string>, place: string][] = [
  ['ringStandsAlone', { 'crates/ring/Cargo.toml': '[dependencies]\nlibc = "0.2"\n' }, 'libc'],
  ['ringStandsAlone', { 'crates/ring/Cargo.toml': '[dependencies.libc]\nversion = "0.2"\n' }, 'libc'],
  ['ringStandsAlone', { 'crates/ring/Cargo.toml': '[dependencies]\nloom = "0.7"\n' }, 'loom'],
  [
    'cratesPointDown',
    { 'crates/core/Cargo.toml': '[dependencies]\nringbell-node.workspace = true\n' },
    'ringbell-node',
  ],
  ['foldersPointDown', { [`${CORE}/sys/lock.rs`]: '\nuse crate::bus::Bus;\n' }, 'sys/lock.rs:2: sys uses bus'],
  [
    'foldersPointDown',
    { [`${CORE}/record/rung.rs`]: 'use super::super::bus::Bus;\n' },
    'record/rung.rs:1: record uses bus',
  ],
  [
    'foldersPointDown',
    { [`${CORE}/sys/lock.rs`]: 'use crate::{Error, bus::{self, Bus}};\n' },
    'sys/lock.rs:1: sys uses bus',
  ],
  [
    'foldersPointDown',
    { [`${CORE}/record/rung.rs`]: '\n\nfn a() { crate::bus::open() }\n' },
    'record/rung.rs:3: record uses bus',
  ],
  [
    'foldersPointDown',
    { [`${CORE}/bus/scan.rs`]: 'use crate::topic as t;\n', ...TOPIC },
    'bus/scan.rs:1: bus uses topic',
  ],
  [
    'foldersPointDown',
    { [`${CORE}/lib.rs`]: 'pub use topic::X;\n', [`${CORE}/bus/scan.rs`]: 'use crate::X;\n', ...TOPIC },
    'bus/scan.rs:1: bus uses topic',
  ],
  [
    'foldersPointDown',
    { [`${CORE}/sys/lock.rs`]: 'use crate::topic::Y;\n', [`${CORE}/topic/mod.rs`]: 'pub use crate::sys::Y;\n' },
    'sys/lock.rs:1: sys uses topic',
  ],
  ['foldersPointDown', { [`${CORE}/attic/mod.rs`]: '\n' }, 'attic has no place'],
  [
    'filesFormNoCircle',
    { [`${CORE}/bus/a.rs`]: 'use super::b::B;\n', [`${CORE}/bus/b.rs`]: 'fn b() { super::a::a() }\n' },
    `${CORE}/bus/a.rs, ${CORE}/bus/b.rs`,
  ],
  [
    'filesFormNoCircle',
    {
      [`${CORE}/bus/mod.rs`]: 'pub use a::A;\n',
      [`${CORE}/bus/a.rs`]: 'use super::b::B;\n',
      [`${CORE}/bus/b.rs`]: 'use super::c::*;\n',
      [`${CORE}/bus/c.rs`]: 'use super::A;\n',
    },
    `${CORE}/bus/a.rs, ${CORE}/bus/b.rs, ${CORE}/bus/c.rs`,
  ],
  [
    'filesFormNoCircle',
    { 'crates/node/src/a.rs': 'use crate::b::B;\n', 'crates/node/src/b.rs': 'use super::a;\n' },
    'crates/node/src/a.rs, crates/node/src/b.rs',
  ],
  ['foldersHaveModFiles', { [`${CORE}/bus/a.rs`]: '\n', [`${CORE}/bus/a/b.rs`]: '\n' }, 'bus/a.rs'],
  ['onlyNodeKnowsNapi', { 'crates/core/Cargo.toml': '[dependencies]\nnapi = "3"\n' }, 'crates/core/Cargo.toml'],
  ['onlyNodeKnowsNapi', { 'crates/core/src/lib.rs': 'use napi::Env;\n' }, 'crates/core/src/lib.rs:1'],
  ['unsafeHasItsPlace', { 'crates/core/src/bus/scan.rs': '\n\nunsafe { call() }\n' }, 'bus/scan.rs:3'],
  ['unsafeHasItsPlace', { 'crates/core/src/topic/a.rs': '#[allow(unsafe_code)]\n' }, 'topic/a.rs:1'],
  ['unsafeHasItsPlace', { 'crates/node/src/bus.rs': 'unsafe impl Send for X {}\n' }, 'crates/node/src/bus.rs:1'],
  ['atomicsComeFromTheShim', { 'crates/ring/src/wake.rs': 'use core::sync::atomic::fence;\n' }, 'ring/src/wake.rs:1'],
  ['atomicsComeFromTheShim', { 'crates/core/src/sys/x.rs': 'AtomicU64::from_ptr(p)\n' }, 'core/src/sys/x.rs:1'],
  ['onlyNativeLoadsTheBinding', { 'examples/x.js': "import b from '../native/binding.cjs'\n" }, 'examples/x.js:1'],
  ['onlyNativeLoadsTheBinding', { '__test__/unit/a.test.ts': "await import('../../native/x.node')\n" }, 'a.test.ts:1'],
  ['importsPointDown', { 'src/bus/a.ts': "import { run } from '../cli/main.ts'\n" }, 'src/bus/a.ts:1'],
  ['importsPointDown', { 'src/bus/a.ts': "export * from '../../benches/x.mjs'\n" }, 'src/bus/a.ts:1'],
  ['importsPointDown', { 'src/bus/a.ts': "\nimport { Bus } from 'ringbell'\n" }, 'src/bus/a.ts:2'],
  ['importsPointDown', { 'src/topic/a.ts': "import type { X } from '../channel/client.js'\n" }, 'src/topic/a.ts:1'],
  ['importsPointDown', { 'src/wait/a.ts': "import '../bus/service.js'\n" }, 'src/wait/a.ts:1'],
  ['importsPointDown', { 'src/wait/a.ts': "import '../codec/json.js'\n" }, 'src/wait/a.ts:1'],
  ['importsPointDown', { 'src/ground.ts': "import './wait/poller.js'\n" }, 'src/ground.ts:1'],
  ['importsPointDown', { 'src/topic/a.ts': "import '../index.js'\n" }, 'src/topic/a.ts:1'],
  ['importsPointDown', { 'src/attic/a.ts': '\n' }, 'src/attic/a.ts'],
  [
    'noCirclesOfFiles',
    { 'src/topic/a.ts': "import './b.js'\n", 'src/topic/b.ts': "import './a.js'\n" },
    'a.ts → src/topic/b.ts',
  ],
  ['noCirclesOfFiles', { 'src/wait/poller.ts': "import type { A } from './poller.js'\n" }, 'src/wait/poller.ts'],
  ['bothSidesKnowTheCodes', { 'src/errors.ts': "const CORE_CODES = ['ERR_RINGBELL_A']\n" }, 'ERR_RINGBELL_B'],
  [
    'bothSidesKnowTheCodes',
    { 'crates/core/src/error.rs': 'const CODES: &[&str] = &["ERR_RINGBELL_A"];' },
    'ERR_RINGBELL_B',
  ],
  ['bothSidesKnowTheCodes', { 'src/errors.ts': '\n' }, 'src/errors.ts'],
  ['filesSayWhatTheyAre', { 'src/utils.ts': '\n' }, 'src/utils.ts'],
  ['filesSayWhatTheyAre', { 'crates/core/src/bus/common/a.rs': '\n' }, 'bus/common/a.rs'],
  ['filesAreSpelledAlike', { 'src/batchWriter.ts': '\n' }, 'src/batchWriter.ts'],
  ['filesAreSpelledAlike', { 'crates/core/src/bus/batch-writer.rs': '\n' }, 'bus/batch-writer.rs'],
  ['oneVersion', { 'npm/linux-x64-gnu/package.json': '{"version":"1.2.2"}' }, 'npm/linux-x64-gnu/package.json'],
  ['oneVersion', { 'Cargo.toml': '[workspace.package]\nversion = "1.2.4"\n' }, 'Cargo.toml'],
]

test('a tree that keeps the rules is not complained of', (t) => {
  t.deepEqual(problems({}), {})
})

for (const [index, [rule, changes, place]] of BROKEN.entries()) {
  test(`${rule} is broken, ${index + 1}: ${place}`, (t) => {
    const found = problems(changes)
    t.deepEqual(Object.keys(found), [rule])
    t.true(
      found[rule]?.some((problem) => problem.includes(place)),
      JSON.stringify(found),
    )
  })
}

test('every rule is broken by some test', (t) => {
  const rules = new Set(BROKEN.map(([rule]) => rule))
  t.deepEqual(Object.keys(problems({})), [])
  t.deepEqual(
    Object.keys(checkLayers('/nowhere')).filter((rule) => !rules.has(rule)),
    [],
  )
})
