/** Options of whatever announces something: which other users may use it. Without any of them nobody but root may. */
import type { Command } from 'commander'
import type { Access } from '../index.js'
import { invalidArgument } from './exit-codes.js'

export interface AccessFlags {
  mode?: number
  group?: string | number
  uids?: number[]
  gids?: number[]
}

/** Adds them to a command. */
export function withAccess(command: Command): Command {
  return command
    .option('--uids <list>', 'let other users in, by their numbers: 1000,1001', parseIds)
    .option('--group <name>', 'let the members of a group in, by its name or number', parseGroup)
    .option('--gids <list>', 'let the members of more groups in, by their numbers', parseIds)
    .option(
      '--mode <mode>',
      'who of them can reach us at all: 660, the group (the default with --group), or 666, every user who can enter the directory',
      parseMode,
    )
}

/** As the API takes it; nothing if nothing was given. */
export function accessOf({ mode, group, uids, gids }: AccessFlags): Access | undefined {
  const given = [mode, group, uids, gids].some((one) => one !== undefined)
  return given ? { mode, group, uids, gids } : undefined
}

function parseMode(text: string): number {
  const [, digits] = /^(?:0o?)?(66[06])$/.exec(text) ?? []
  if (digits === undefined) throw invalidArgument('A mode is 660 or 666.')
  return Number.parseInt(digits, 8)
}

function parseGroup(text: string): string | number {
  return /^\d+$/.test(text) ? Number(text) : text
}

function parseIds(text: string): number[] {
  if (!/^\d+(,\d+)*$/.test(text)) throw invalidArgument('It is a list of numbers, such as 1000,1001.')
  return text.split(',').map(Number)
}
