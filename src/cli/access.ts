/** Options of commands that announce something: which other users may use it. Without these options only root may. */
import type { Command } from 'commander'
import type { Access } from '../index.js'
import { invalidArgument } from './exit-codes.js'

export interface AccessFlags {
  mode?: number
  group?: string | number
  uids?: number[]
  gids?: number[]
}

/** Adds these options to a command. */
export function withAccess(command: Command): Command {
  return command
    .option('--uids <list>', 'let other users in, by their numbers: 1000,1001', parseIds)
    .option('--group <name>', 'let the members of a group in, by its name or number', parseGroup)
    .option('--gids <list>', 'let the members of more groups in, by their numbers', parseIds)
    .option(
      '--mode <mode>',
      'mode of the socket: with 660 only the group can reach it (the default with --group), with 666 every user that can enter the directory',
      parseMode,
    )
}

/** The options as the API takes them; `undefined` if none was given. */
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
