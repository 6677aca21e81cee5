// @ts-check
/**
 * Where `npm run reach` keeps what it fetches and builds (target/reach), and how it fetches. Nothing is installed by hand
 * and, but for Debian's Rust and binfmt, nothing outside of this folder is changed. What cannot be had is `Missing`: the rows
 * that need it are counted as skipped, with the reason.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { must, TARGET } from '../project.mjs'

export const REACH = join(TARGET, 'reach')

/** A tool that no registry gives, or a right that this user does not have. The message is one line. */
export class Missing extends Error {}

/** @typedef {import('../project.mjs').RunOptions} Io */

/**
 * A folder below target/reach that is fetched once. `fill` gets the path of an empty folder.
 * @param {string} name with the version in it, so that another version is fetched anew
 * @param {(folder: string) => Promise<void>} fill @returns {Promise<string>} its path
 */
export async function fetched(name, fill) {
  const folder = join(REACH, name)
  if (existsSync(folder)) return folder
  const half = `${folder}.half`
  rmSync(half, { recursive: true, force: true })
  mkdirSync(half, { recursive: true })
  try {
    await fill(half)
  } catch (error) {
    if (error instanceof Missing) throw error
    throw new Missing(`${name} could not be fetched: ${error instanceof Error ? error.message : String(error)}`)
  }
  renameSync(half, folder)
  return folder
}

/**
 * A package of PyPI, unpacked: the wheel of another machine, too.
 * @param {string} name @param {string} requirement @param {Io} io @param {string} [platform] of the wheel
 */
export function wheel(name, requirement, io, platform) {
  const of = platform === undefined ? [] : ['--platform', platform, '--only-binary', ':all:']
  const flags = ['--quiet', '--no-deps', '--disable-pip-version-check', '--no-cache-dir', ...of]
  return fetched(name, (folder) => must(['pip', 'install', ...flags, '--target', folder, requirement], io))
}
