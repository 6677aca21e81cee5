/**
 * The layout of the help of the program and of every command. Descriptions are single lines, which are wrapped once, at
 * the width of the terminal or at 80 columns.
 */
import type { Command, HelpConfiguration } from 'commander'
import { EXIT_CODES } from './exit-codes.js'

export const HELP: HelpConfiguration = { showGlobalOptions: true, sortSubcommands: false, minWidthToWrap: 20 }

/** The end of the program's own help. */
export function exitCodesHelp(): string {
  return ['', 'Exit codes:', ...EXIT_CODES.map(([code, meaning]) => `  ${code.padEnd(4)} ${meaning}`)].join('\n')
}

/** The commands that help, completion and man page show, in their order. */
export function shownCommands(program: Command): readonly Command[] {
  return program.createHelp().visibleCommands(program)
}
