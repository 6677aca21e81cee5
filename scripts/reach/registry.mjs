// @ts-check
/**
 * A registry on the loopback interface that has the packed tarballs, and sends every other request to npm's registry. So
 * each installer gets ringbell as users will: by name, and it chooses the binary's package by processor and C library itself.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { basename } from 'node:path'
import { execFileSync } from 'node:child_process'
import { npm } from '../project.mjs'

/**
 * @param {{ root: string, binaries: Record<string, string> }} tarballs
 * @returns {Promise<{ url: string, close(): void }>}
 */
export async function startRegistry(tarballs) {
  const [program = '', ...args] = npm(['config', 'get', 'registry'])
  const upstream = execFileSync(program, args, { encoding: 'utf8' }).trim().replace(/\/$/, '')
  /** @type {Map<string, Buffer>} */
  const files = new Map()
  /** @type {Map<string, object>} */
  const documents = new Map()
  const server = createServer(({ url = '/' }, response) => {
    const path = decodeURIComponent(url)
    const file = files.get(path)
    if (file !== undefined) response.end(file)
    else if (documents.has(path)) {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(documents.get(path)))
    } else if (path.startsWith('/ringbell')) response.writeHead(404).end('{}')
    else response.writeHead(302, { location: upstream + url }).end()
  })
  await new Promise((listening) => void server.listen(0, '127.0.0.1', () => listening(undefined)))
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  for (const path of [tarballs.root, ...Object.values(tarballs.binaries)]) {
    const bytes = readFileSync(path)
    const manifest = JSON.parse(execFileSync('tar', ['-xzOf', path, 'package/package.json'], { encoding: 'utf8' }))
    const { name, version } = manifest
    const at = `/${name}/-/${basename(path)}`
    files.set(at, bytes)
    const dist = {
      tarball: url + at,
      integrity: `sha512-${createHash('sha512').update(bytes).digest('base64')}`,
      shasum: createHash('sha1').update(bytes).digest('hex'),
    }
    const versions = { [version]: { ...manifest, dist } }
    documents.set(`/${name}`, {
      name,
      'dist-tags': { latest: version },
      versions,
      time: { [version]: '2020-01-01T00:00:00.000Z' },
    })
  }
  return { url, close: () => void server.close() }
}
