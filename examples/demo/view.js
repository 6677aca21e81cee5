// @ts-check
/** What is to be seen at a glance: a line for every process, from what it reported last. */
import { bandwidth, count, duration, size } from './figures.js'
import { paint } from './screen.js'

const BARS = '▁▂▃▄▅▆▇█'
const TREND = 24

/** Rates of the last seconds. @type {number[]} */
const trend = []
let shown = -1

/** @param {{ publisher: import('./child.js').Child | undefined, subscribers: import('./child.js').Child[] }} cast */
export function view({ publisher, subscribers }) {
  const [dashboard, meter, checker] = subscribers
  const { rate = 0, bandwidth: bytes = 0, p50 = 0, p99 = 0 } = meter?.latest ?? {}
  const { cpu = 0, memory = 0, network = 0, switches = 0 } = dashboard?.latest ?? {}
  const { checked = 0, wrong = 0 } = checker?.latest ?? {}
  if (shown !== rate) trend.push((shown = rate))
  if (trend.length > TREND) trend.shift()
  const speed = `${count(rate)} readings/s, ${bandwidth(bytes)}`
  const latency = p99 === 0 ? 'latency -' : `latency p50 ${duration(p50)}, p99 ${duration(p99)}`
  const order = `${count(checked)} readings checked, ${count(wrong)} out of order or torn`
  const machine = `CPU ${Math.round(cpu * 100)} %, memory ${size(memory)}, network ${bandwidth(network)}, ${count(switches)} context switches/s`
  const state =
    publisher === undefined
      ? 'not there yet'
      : publisher.ended
        ? paint('red', 'gone')
        : `${count(publisher.latest['messages'] ?? 0)} readings sent`
  return {
    lines: [
      '',
      row('publisher', publisher?.pid, state),
      row('dashboard', dashboard?.pid, machine),
      row('meter', meter?.pid, `${speed}   ${latency}   ${paint('cyan', sparkline())}`),
      row('checker', checker?.pid, order),
    ],
    summary: rate === 0 ? undefined : `         ${speed}; ${latency}; ${order}; ${machine}`,
  }
}

/** @param {string} name @param {number | undefined} pid @param {string} text */
function row(name, pid, text) {
  return `  ${paint('bold', name.padEnd(9))}  ${paint('dim', String(pid ?? '').padStart(7))}  ${text}`
}

function sparkline() {
  const most = Math.max(1, ...trend)
  return trend.map((rate) => BARS[Math.min(BARS.length - 1, Math.floor((rate / most) * BARS.length))]).join('')
}
