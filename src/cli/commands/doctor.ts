/**
 * `ringbell doctor`: checks what this machine, this user and this bus allow, says what to do about problems, and tries
 * to pass a message to another process. The exit code is 1 if something does not work. What works with limits (`!`) is
 * not a failure.
 */
import { Command } from 'commander'
import type { BusOptions, Check } from '../../index.js'
import { worst } from '../doctor/check.js'
import { otherPlaces } from '../doctor/places.js'
import { onOwnBus } from '../doctor/own-bus.js'
import { passMessages, tryOut } from '../doctor/try-out.js'
import { VisitedBus } from '../doctor/visited-bus.js'
import { waking } from '../doctor/waking.js'
import { EXIT, type ExitCode, sentenceOf } from '../exit-codes.js'
import type { Output } from '../output.js'
import type { Style } from '../paint.js'
import { busOptions, type GlobalOptions, run } from '../session.js'
import { columns } from '../table.js'

const SIGNS: Readonly<Record<Check['status'], { sign: string; style: Style }>> = {
  ok: { sign: '✓', style: 'green' },
  warn: { sign: '!', style: 'yellow' },
  fail: { sign: '✗', style: 'red' },
}

export function doctor(): Command {
  return new Command('doctor')
    .summary('check what this machine allows')
    .description(
      'Checks kernel, security modules, limits and the bus directory, looks for services on your other buses, tries each ' +
        'rung of acquisition between two processes, and says what to do. It leaves nothing behind. ✓ as it should be, ! works ' +
        'with limits, ✗ does not work (exit code 1).',
    )
    .action((_options: object, command: Command) => {
      const { json = false } = command.optsWithGlobals<GlobalOptions>()
      return run(json, (out, signal) => examine(out, signal, busOptions(command)))
    })
}

/** Checks of a bus's directory. They say nothing about another one. */
const OF_A_BUS: ReadonlySet<string> = new Set(['sockets', 'directory', 'access', 'leftovers'])

async function examine(out: Output, signal: AbortSignal, options: BusOptions): Promise<ExitCode> {
  const checks = [node(), waking(), ...(await checksOf(options, signal))]
  const status = worst(checks)
  if (out.json) await out.write(`${JSON.stringify({ status, checks }, undefined, 2)}\n`)
  else await out.write(`${lines(checks, out).join('\n')}\n`)
  return status === 'fail' ? EXIT.failure : EXIT.ok
}

async function checksOf(options: BusOptions, signal: AbortSignal): Promise<Check[]> {
  let visited: VisitedBus
  try {
    visited = await VisitedBus.open(options)
  } catch (error) {
    const bus: Check = { check: 'bus', status: 'fail', detail: sentenceOf(error), advice: adviceFor(error) }
    return [bus, ...(await withoutBus(signal)), await otherPlaces(undefined)]
  }
  const { bus } = visited
  try {
    const { checks } = await bus.doctor()
    return [...visited.checks, ...checks, await otherPlaces(bus), ...(await tryOut(bus.path, signal))]
  } finally {
    await visited.close()
  }
}

/** What can be said of this machine when the bus cannot be opened. */
async function withoutBus(signal: AbortSignal): Promise<Check[]> {
  try {
    return await onOwnBus(async (own) => {
      const { checks } = await own.doctor()
      return [...checks.filter(({ check }) => !OF_A_BUS.has(check)), ...(await passMessages(own, signal))]
    })
  } catch (error) {
    signal.throwIfAborted()
    // No bus can be opened at all.
    return [{ check: 'machine', status: 'warn', detail: sentenceOf(error), advice: 'see the findings above' }]
  }
}

function adviceFor(error: unknown): string {
  const { code } = error as { code?: string }
  if (code === 'ERR_RINGBELL_INVALID_OPTION') return 'correct the option or variable'
  return code === 'ERR_RINGBELL_BINDING' || code === 'ERR_RINGBELL_UNSUPPORTED_PLATFORM'
    ? 'another directory does not help; see docs/guide/troubleshooting.md, "Bundlers, noexec and --no-addons"'
    : 'choose another directory with --bus or IPC_BUS_DIR'
}

function node(): Check {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  const libc = report.header?.glibcVersionRuntime
  const { bun, deno } = process.versions
  const name = bun !== undefined ? `Bun ${bun}` : deno !== undefined ? `Deno ${deno}` : process.version
  return {
    check: 'node',
    status: 'ok',
    detail: `${name}, ${process.arch}, ${libc === undefined ? 'musl' : `glibc ${libc}`}`,
    advice: '',
  }
}

function lines(checks: readonly Check[], { paint }: Output): string[] {
  const rows = columns(
    checks.map(({ check, status, detail }) => {
      const { sign, style } = SIGNS[status]
      return [paint(style, sign), check, detail]
    }),
  )
  const indent = ' '.repeat(3)
  return rows.flatMap((row, at) => {
    const { advice, status } = checks[at]!
    return advice === '' ? [row] : [row, `${indent}${paint(SIGNS[status].style, '→')} ${advice}`]
  })
}
