// The machine, the versions and the moment: what a number means nothing without.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/** The rivals in Rust: each is a feature of benches/rust. */
export const crates = ['iceoryx2', 'shmem-ipc', 'zmq', 'nng']

const benches = path.resolve(import.meta.dirname, '..')

function output(command, ...args) {
  try {
    return execFileSync(command, args, { cwd: benches, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}

function text(file) {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}

export function machine() {
  const cpus = os.cpus()
  const distribution = text('/etc/os-release')?.match(/^PRETTY_NAME="?([^"\n]*)/m)?.[1]
  return {
    cpu: cpus[0]?.model.trim(),
    cores: cpus.length,
    threadsPerCore: Number(output('lscpu')?.match(/Thread\(s\) per core:\s*(\d+)/)?.[1]) || undefined,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    architecture: os.arch(),
    kernel: os.release(),
    distribution,
    hypervisor: output('lscpu')?.match(/Hypervisor vendor:\s*(.*)/)?.[1],
    governor: text('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'),
    loadAverage: os.loadavg().map((load) => Math.round(load * 100) / 100),
  }
}

export function versions() {
  const installed = (name) => {
    const manifest = text(path.join(benches, 'node_modules', name, 'package.json'))
    return manifest && JSON.parse(manifest).version
  }
  const lock = text(path.join(benches, 'rust/Cargo.lock'))
  const locked = (name) => lock?.match(new RegExp(`name = "${name}"\nversion = "([^"]+)"`))?.[1]
  const root = text(path.join(benches, '../package.json'))
  return {
    ringbell: root && JSON.parse(root).version,
    node: process.version,
    v8: process.versions.v8,
    zeromq: installed('zeromq'),
    undici: installed('undici'),
    grpc: installed('@grpc/grpc-js'),
    bun: installed('bun'),
    lmdb: installed('lmdb'),
    lockfile: installed('proper-lockfile'),
    redis: output('redis-server', '--version')?.match(/v=(\S+)/)?.[1],
    libc: output('getconf', 'GNU_LIBC_VERSION'),
    ...Object.fromEntries(crates.map((crate) => [crate, locked(crate)])),
    rustc: output('rustc', '--version'),
  }
}

/** The commit, marked when the work tree differs from it. */
export function commit() {
  const id = output('git', 'rev-parse', '--short=12', 'HEAD')
  if (!id) return undefined
  return output('git', 'status', '--porcelain', '--untracked-files=no', '--', '..', ':!.') ? `${id} with changes` : id
}
