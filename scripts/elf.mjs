// @ts-check
/**
 * Reads a 64-bit little-endian ELF shared object: what the dynamic loader will need on a machine. These are the libraries,
 * the version of each imported symbol, and the file's own minimum. check-glibc.mjs uses this, so objdump is not needed.
 * References: elf(5); "ELF Symbol Versioning" (Drepper).
 */

const SHT_DYNSYM = 11
const SHT_DYNAMIC = 6
const SHT_GNU_VERNEED = 0x6ffffffe
const SHT_GNU_VERSYM = 0x6fffffff
const DT_NEEDED = 1n
const MACHINES = /** @type {Record<number, string>} */ ({ 62: 'x64', 183: 'arm64' })

/**
 * @typedef {object} Elf
 * @property {string} machine `x64`, `arm64`, or the number
 * @property {string[]} libraries the needed ones
 * @property {{ library: string, version: string }[]} versions what is needed of which library
 * @property {{ name: string, version: string | undefined, weak: boolean }[]} imports
 */

/** @param {Buffer} file @returns {Elf} */
export function readElf(file) {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) throw new Error('not an ELF file')
  if (file[4] !== 2 || file[5] !== 1) throw new Error('not a 64-bit little-endian ELF file')
  const sections = readSections(file)
  /** @param {number} type */
  const find = (type) => sections.find((section) => section.type === type)
  const symbols = find(SHT_DYNSYM)
  const dynamic = find(SHT_DYNAMIC)
  if (symbols === undefined || dynamic === undefined) throw new Error('no dynamic section: not a shared object')
  const needs = readNeeds(file, sections, find(SHT_GNU_VERNEED))
  const machine = file.readUInt16LE(18)
  return {
    machine: MACHINES[machine] ?? String(machine),
    libraries: readLibraries(file, sections, dynamic),
    versions: [...needs.values()],
    imports: readImports(file, sections, symbols, find(SHT_GNU_VERSYM), needs),
  }
}

/** @typedef {{ type: number, offset: number, size: number, link: number, info: number }} Section */

/** @param {Buffer} file @returns {Section[]} */
function readSections(file) {
  const table = Number(file.readBigUInt64LE(40))
  const size = file.readUInt16LE(58)
  return Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const at = table + index * size
    return {
      type: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
      info: file.readUInt32LE(at + 44),
    }
  })
}

/** @param {Buffer} file @param {Section[]} sections @param {Section} user whose strings stand in the section it links to */
function stringsOf(file, sections, user) {
  const start = sections[user.link]?.offset ?? 0
  return (/** @type {number} */ offset) => file.toString('latin1', start + offset, file.indexOf(0, start + offset))
}

/** @param {Buffer} file @param {Section[]} sections @param {Section} dynamic */
function readLibraries(file, sections, dynamic) {
  const text = stringsOf(file, sections, dynamic)
  const names = []
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    if (file.readBigInt64LE(at) === DT_NEEDED) names.push(text(Number(file.readBigUInt64LE(at + 8))))
  }
  return names
}

/** Version index → library and version. @param {Buffer} file @param {Section[]} sections @param {Section | undefined} section */
function readNeeds(file, sections, section) {
  const needs = /** @type {Map<number, { library: string, version: string }>} */ (new Map())
  if (section === undefined) return needs
  const text = stringsOf(file, sections, section)
  let at = section.offset
  for (let entry = 0; entry < section.info; entry++) {
    const library = text(file.readUInt32LE(at + 4))
    let aux = at + file.readUInt32LE(at + 8)
    for (let count = file.readUInt16LE(at + 2); count > 0; count--) {
      needs.set(file.readUInt16LE(aux + 6), { library, version: text(file.readUInt32LE(aux + 8)) })
      aux += file.readUInt32LE(aux + 12)
    }
    at += file.readUInt32LE(at + 12)
  }
  return needs
}

/**
 * @param {Buffer} file @param {Section[]} sections @param {Section} symbols @param {Section | undefined} versions
 * @param {Map<number, { library: string, version: string }>} needs
 */
function readImports(file, sections, symbols, versions, needs) {
  const text = stringsOf(file, sections, symbols)
  const imports = []
  for (let index = 1; index < symbols.size / 24; index++) {
    const at = symbols.offset + index * 24
    if (file.readUInt16LE(at + 6) !== 0) continue
    const version = versions === undefined ? 0 : file.readUInt16LE(versions.offset + index * 2) & 0x7fff
    imports.push({
      name: text(file.readUInt32LE(at)),
      version: needs.get(version)?.version,
      weak: (file[at + 4] ?? 0) >> 4 === 2,
    })
  }
  return imports
}
