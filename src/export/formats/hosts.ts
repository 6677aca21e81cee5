/** Lines for /etc/hosts, or for `addn-hosts` of dnsmasq: the IP addresses of each service that has a port. */
import { isNumeric, parseAddress } from '../address.js'
import { Excuse, type Format, isFailing, UNWELL } from '../format.js'

export const hosts: Format<readonly string[]> = {
  entry(service, endpoints) {
    if (isFailing(service)) return UNWELL
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
