/** The grammar of the command line as plain data, for completion scripts. It is read from the table that parses it. */
import type { Argument, Command, Option } from 'commander'
import { shownCommands } from '../help.js'

export interface Grammar {
  readonly globals: readonly Flag[]
  readonly commands: readonly Verb[]
}

export interface Verb {
  readonly name: string
  readonly summary: string
  readonly flags: readonly Flag[]
  readonly words: readonly Word[]
}

export interface Flag {
  /** `-f` and `--file`, or one of them. */
  readonly names: readonly string[]
  readonly description: string
  /** The kind of its value, if it has one. */
  readonly value?: Value
}

export interface Word {
  readonly name: string
  readonly value: Value
  readonly variadic: boolean
}

/** The kind of a value: one of some words, a file or folder, the name of a service on the bus, a command, or any text. */
export type Value =
  | { readonly kind: 'choices'; readonly choices: readonly string[] }
  | { readonly kind: 'file' | 'folder' | 'service' | 'command' | 'text' }

export function grammarOf(program: Command): Grammar {
  const commands = shownCommands(program)
  const names = commands.map((command) => command.name())
  return {
    globals: flagsOf(program),
    commands: commands.map((command) => ({
      name: command.name(),
      summary: command.summary(),
      flags: flagsOf(command),
      words: command.registeredArguments.map((word) => wordOf(word, names)),
    })),
  }
}

function flagsOf(command: Command): Flag[] {
  return command.createHelp().visibleOptions(command).map(flagOf)
}

function flagOf(option: Option): Flag {
  const { short, long, description, argChoices, required, optional, flags } = option
  const names = [short, long].filter((name) => name !== undefined)
  if (!required && !optional) return { names, description }
  return { names, description, value: valueOf(/<(.*)>/.exec(flags)?.[1] ?? '', argChoices) }
}

function wordOf(word: Argument, commands: readonly string[]): Word {
  const name = word.name()
  // The argument of `help` has no choices of its own, because `help` is made before all commands are known.
  const choices = name === 'command' && !word.variadic ? commands : word.argChoices
  return { name, value: valueOf(name, choices), variadic: word.variadic }
}

const KINDS: Readonly<Record<string, Exclude<Value['kind'], 'choices'>>> = {
  path: 'file',
  dir: 'folder',
  topic: 'service',
  service: 'service',
  services: 'service',
  queue: 'service',
  command: 'command',
}

function valueOf(name: string, choices: readonly string[] | undefined): Value {
  return choices === undefined ? { kind: KINDS[name] ?? 'text' } : { kind: 'choices', choices }
}
