/**
 * Variables for a shell (`. ./services.env`), for `EnvironmentFile=` of systemd and for `--env-file`: `API_HTTP` is the address of the
 * instance that comes first (the primary of a service group), `API_HTTP_ALL` those of all instances.
 *
 * Anybody on the bus can announce any name. So variables that change what programs do, and texts that are no address, are written
 * only for services that the user has named.
 */
import { parseAddress } from '../address.js'
import type { Service } from '../../index.js'
import { Excuse, type Format, isFailing, NAME_IT, UNWELL } from '../format.js'

interface Addresses {
  readonly first: boolean
  readonly endpoints: readonly (readonly [name: string, address: string])[]
}

/** Variables by which loaders, interpreters, shells and libraries are told what to load, or whom to ask. */
const POWERFUL =
  /^(LD|DYLD|GLIBC|GCONV|MALLOC|BASH|PROMPT|SHELL|NODE|NPM|PYTHON|PERL5?|PERLIO|RUBY|JAVA|JDK|GIT|SSH|SSL|OPENSSL|CURL|REQUESTS|DOCKER|AWS|DBUS|XDG|LC|SYSTEMD|NATS|IPC|RINGBELL)_|_PROXY$/
const PLAIN = /^[A-Za-z0-9_./:@%+,=[\]-]*$/

export const env: Format<Addresses> = {
  entry(service, endpoints, named) {
    if (isFailing(service)) return UNWELL
    const all = Object.entries(endpoints)
    const wrong = all.find(([, address]) => /[\p{Cc}\s]/u.test(address))
    // A list of addresses is separated by spaces, and a line is a variable.
    if (wrong !== undefined) return new Excuse(`the address ${JSON.stringify(wrong[1])} does not fit into a variable`)
    for (const [name, address] of named ? [] : all) {
      const variable = variableOf(`${service.name}_${name}`)
      if (POWERFUL.test(variable)) return new Excuse(`${variable} changes what programs do; ${NAME_IT}`)
      if (parseAddress(address) === undefined)
        return new Excuse(`${JSON.stringify(address)} is no address that is known here; ${NAME_IT}`)
    }
    return { first: isFirst(service), endpoints: all }
  },
  text(groups) {
    const variables = new Map<string, string>()
    for (const [service, instances] of groups)
      for (const [name, addresses] of byEndpoint(instances)) {
        const variable = variableOf(`${service}_${name}`)
        // Two names can become one variable. The first one keeps it.
        if (variables.has(variable) || variables.has(`${variable}_ALL`)) continue
        variables.set(variable, addresses[0] ?? '')
        variables.set(`${variable}_ALL`, addresses.join(' '))
      }
    return [...variables].map(([name, value]) => `${name}=${quoted(value)}\n`).join('')
  },
}

function isFirst({ group }: Service): boolean {
  return group?.role === 'primary'
}

function byEndpoint(instances: readonly Addresses[]): Map<string, string[]> {
  const found = new Map<string, string[]>()
  const inOrder = [...instances.filter(({ first }) => first), ...instances.filter(({ first }) => !first)]
  for (const { endpoints } of inOrder)
    for (const [name, address] of endpoints) found.set(name, [...(found.get(name) ?? []), address])
  return found
}

function variableOf(name: string): string {
  return name
    .toUpperCase()
    .replace(/[^A-Z0-9_]/g, '_')
    .replace(/^(?=\d)/, '_')
}

/** In single quotes, which a shell and systemd take away, and only if need be: Docker would keep them. */
function quoted(value: string): string {
  return PLAIN.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`
}
