/**
 * Lines for /etc/hosts, or for `addn-hosts` of dnsmasq: the IP addresses of each service that has a port. Anybody on the bus can announce
 * `github.com` or `localhost`, so such names are written only for services that the user has named.
 */
import { isNumeric, parseAddress } from '../address.js'
import { Excuse, type Format, isFailing, NAME_IT, UNWELL } from '../format.js'

const FOREIGN = /\.|^(localhost|ip6-.*)$/i

export const hosts: Format<readonly string[]> = {
  entry(service, endpoints, named) {
    if (isFailing(service)) return UNWELL
    if (!named && FOREIGN.test(service.name))
      return new Excuse(`${service.name} may be the name of another machine; ${NAME_IT}`)
    const found = Object.values(endpoints).flatMap((text) => {
      const address = parseAddress(text)
      return address === undefined || 'unix' in address || !isNumeric(address) ? [] : [address.host]
    })
    return found.length > 0 ? found : new Excuse('none of its endpoints has an IP address')
  },
  text(groups) {
    const lines = [...groups].flatMap(([name, instances]) =>
      [...new Set(instances.flat())].map((ip) => `${ip} ${name}\n`),
    )
    return `# Written by ringbell export. Changes are lost.\n${lines.join('')}`
  },
}
