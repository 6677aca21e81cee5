/**
 * Targets for the service discovery by files of Prometheus (`file_sd_configs`). The endpoint `metrics` is what it scrapes, otherwise
 * `http`. Metadata becomes labels. What changes with each start of a process is a `__meta_` label, for relabelling only: as a label
 * of its own it would begin new series with each start. Prometheus refuses the whole file for one wrong label, so names are made to fit.
 */
import type { Service } from '../../index.js'
import { authority, parseAddress } from '../address.js'
import { chosen, Excuse, type Format, noChoice } from '../format.js'

const PREFERRED = ['metrics', 'http', 'https']

export const prometheus: Format<string> = {
  entry(service, endpoints) {
    const text = chosen(endpoints, PREFERRED)
    if (text === undefined) return noChoice(endpoints)
    const address = parseAddress(text)
    if (address === undefined) return new Excuse(`Prometheus cannot scrape the address ${JSON.stringify(text)}`)
    if ('unix' in address) return new Excuse('Prometheus cannot scrape a Unix socket; announce a port as well')
    const labels = {
      ...labelsOf(service),
      ...(address.secure ? { __scheme__: 'https' } : {}),
      ...(address.path === '' ? {} : { __metrics_path__: address.path.replace(/\?.*$/s, '') }),
    }
    return `  ${JSON.stringify({ targets: [authority(address)], labels })}`
  },
  text(groups) {
    const all: string[] = []
    for (const targets of groups.values()) all.push(...targets)
    return all.length === 0 ? '[]\n' : `[\n${all.join(',\n')}\n]\n`
  },
}

function labelsOf({ name, id, kind, pid, metadata, group }: Service): Record<string, string> {
  const labels: Record<string, string> = {}
  for (const [key, value] of Object.entries(metadata)) {
    const label = key.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_')
    // Labels that begin with two underscores belong to Prometheus.
    if (/^(string|number|boolean)$/.test(typeof value) && label !== '' && !label.startsWith('__'))
      labels[label] = String(value)
  }
  return {
    ...labels,
    service: name,
    __meta_ringbell_id: id,
    __meta_ringbell_kind: kind,
    __meta_ringbell_pid: String(pid),
    ...(group === undefined ? {} : { __meta_ringbell_role: group.role }),
  }
}
