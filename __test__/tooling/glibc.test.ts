/** The glibc check: what it reads of a real ELF file, and each way in which a file can need too much. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { glibcProblems } from '../../scripts/check-glibc.mjs'
import { readElf } from '../../scripts/elf.mjs'

const FINE = {
  machine: 'x64',
  libraries: ['libc.so.6'],
  versions: [
    { library: 'libc.so.6', version: 'GLIBC_2.31' },
    { library: 'libgcc_s.so.1', version: 'GCC_4.2.0' },
  ],
  imports: [
    { name: 'memcpy', version: 'GLIBC_2.31', weak: false },
    { name: 'memfd_create', version: undefined, weak: false },
    { name: 'gettid', version: undefined, weak: true },
    { name: 'napi_create_object', version: undefined, weak: false },
  ],
}

test('a program for glibc 2.31 is accepted', (t) => {
  t.deepEqual(glibcProblems(FINE), [])
})

test('a version above 2.31 is named with its symbols', (t) => {
  const versions = [{ library: 'libc.so.6', version: 'GLIBC_2.34' }]
  const imports = [{ name: 'pthread_create', version: 'GLIBC_2.34', weak: false }]
  const [problem] = glibcProblems({ ...FINE, versions, imports })
  t.regex(problem ?? '', /GLIBC_2\.34 .* pthread_create/)
})

test('versions are numbers, not text', (t) => {
  t.deepEqual(glibcProblems({ ...FINE, versions: [{ library: 'libc.so.6', version: 'GLIBC_2.4' }] }), [])
  t.is(glibcProblems({ ...FINE, versions: [{ library: 'libc.so.6', version: 'GLIBC_2.100' }] }).length, 1)
})

test('a marker that is no version needs a newer loader', (t) => {
  t.is(glibcProblems({ ...FINE, versions: [{ library: 'libc.so.6', version: 'GLIBC_ABI_DT_RELR' }] }).length, 1)
})

test('a call without a symbol version must be a known one', (t) => {
  const close = { name: 'close_range', version: undefined, weak: false }
  t.regex(glibcProblems({ ...FINE, imports: [close] })[0] ?? '', /close_range/)
  const rename = { name: 'renameat2', version: undefined, weak: false }
  t.deepEqual(glibcProblems({ ...FINE, imports: [rename] }), [])
  t.regex(glibcProblems({ ...FINE, versions: [], imports: [rename] }, '2.27')[0] ?? '', /2\.28/)
})

test('C++ symbols are ignored', (t) => {
  t.is(glibcProblems({ ...FINE, libraries: ['libstdc++.so.6'] }).length, 1)
})

test('the running Node is read as the loader would', (t) => {
  const elf = readElf(readFileSync(process.execPath))
  t.is(elf.machine, process.arch)
  t.true(elf.libraries.some((name) => name.startsWith('libc.')))
  t.true(elf.imports.some(({ name }) => name === 'malloc' || name === 'memcpy'))
})

test('a file that is no shared object is refused', (t) => {
  t.throws(() => readElf(Buffer.from('#!/bin/sh\n')), { message: /not an ELF/ })
  t.throws(() => readElf(Buffer.alloc(0)), { message: /not an ELF/ })
})
