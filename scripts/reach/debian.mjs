// @ts-check
/**
 * Packages of Debian, unpacked into a folder. This needs apt-get, but not root, and does not touch the system: apt gets
 * lists and a state of its own. So packages of another release and of another processor can be had, too.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must, onPath, run } from '../project.mjs'
import { fetched, Missing } from './place.mjs'

const MIRROR = 'http://deb.debian.org/debian'
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'

/**
 * @param {{ suite: string, arch: 'amd64' | 'arm64', packages: string[] }} wanted
 * @param {import('./place.mjs').Io} io @returns {Promise<string>} the folder
 */
export function debian({ suite, arch, packages }, io) {
  if (!onPath('apt-get')) throw new Missing(`${packages.join(', ')} of Debian: there is no apt-get`)
  return fetched(`debian-${suite}-${arch}-${packages[0]}`, async (folder) => {
    const apt = join(folder, 'apt')
    for (const part of ['lists/partial', 'archives/partial', 'debs']) mkdirSync(join(apt, part), { recursive: true })
    writeFileSync(join(apt, 'status'), '')
    writeFileSync(join(apt, 'sources.list'), `deb [signed-by=${KEYS} arch=${arch}] ${MIRROR} ${suite} main\n`)
    const settings = {
      'APT::Architecture': arch,
      'APT::Architectures': arch,
      'APT::Sandbox::User': '',
      'Dir::Etc::SourceList': join(apt, 'sources.list'),
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::State::Lists': join(apt, 'lists'),
      'Dir::State::Status': join(apt, 'status'),
      'Dir::Cache': apt,
    }
    const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])
    await must(['apt-get', ...options, 'update', '-q'], io)
    const debs = join(apt, 'debs')
    await must(['apt-get', ...options, 'download', '-q', ...packages], { ...io, cwd: debs })
    for (const deb of readdirSync(debs)) await must(['dpkg-deb', '-x', join(debs, deb), folder], io)
  })
}

/** Installs packages on this machine. Needs root. @param {string[]} packages @param {import('./place.mjs').Io} io */
export async function install(packages, io) {
  if ((await run(['dpkg', '-s', ...packages], { output: () => {} })) === 0) return
  if (!onPath('apt-get') || process.getuid?.() !== 0)
    throw new Missing(`${packages.join(', ')} must be installed (apt-get, as root)`)
  await must(['apt-get', 'update', '-q'], io)
  await must(['apt-get', 'install', '-y', '--no-install-recommends', ...packages], {
    ...io,
    env: { DEBIAN_FRONTEND: 'noninteractive' },
  })
}
