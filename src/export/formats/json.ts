/** The instances of each service with their addresses and metadata, as JSON: for everything that has no format of its own. */
import type { Format } from '../format.js'

export const json: Format<string> = {
  entry({ id, kind, pid, metadata, group }, endpoints) {
    return JSON.stringify({ id, kind, pid, endpoints, metadata, ...(group === undefined ? {} : { role: group.role }) })
  },
  text(groups) {
    const services = [...groups].map(([name, instances]) => {
      const list = instances.length === 0 ? '[]' : `[\n    ${instances.join(',\n    ')}\n  ]`
      return `  ${JSON.stringify(name)}: ${list}`
    })
    return services.length === 0 ? '{}\n' : `{\n${services.join(',\n')}\n}\n`
  },
}
