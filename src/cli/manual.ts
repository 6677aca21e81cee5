/** The examples in the help of a command. They are kept here, so that the man page can read them as well. */
import type { Command } from 'commander'

const EXAMPLES = new WeakMap<Command, readonly string[]>()

/** Adds examples to the end of a command's help. */
export function withExamples(command: Command, examples: readonly string[]): Command {
  EXAMPLES.set(command, examples)
  const heading = examples.length === 1 ? 'Example:' : 'Examples:'
  return command.addHelpText('after', ['', heading, ...examples.map((line) => `  ${line}`)].join('\n'))
}

export function examplesOf(command: Command): readonly string[] {
  return EXAMPLES.get(command) ?? []
}
