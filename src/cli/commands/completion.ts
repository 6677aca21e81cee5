/** `ringbell completion <shell>`: prints a completion script. It is made from the table that parses the command line. */
import { Argument, Command } from 'commander'
import { bash } from '../completion/bash.js'
import { fish } from '../completion/fish.js'
import { type Grammar, grammarOf } from '../completion/grammar.js'
import { zsh } from '../completion/zsh.js'
import { withExamples } from '../manual.js'
import { run } from '../session.js'

const SHELLS: Readonly<Record<string, (grammar: Grammar) => string>> = { bash, zsh, fish }

export function completion(): Command {
  const command = new Command('completion')
    .summary('print the completion script of a shell')
    .description(
      'Prints a script that lets a shell complete commands, options and the names of services that are on the bus.',
    )
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SHELLS)))
  return withExamples(command, [
    'source <(ringbell completion bash)',
    'ringbell completion zsh > ~/.zfunc/_ringbell',
    'ringbell completion fish > ~/.config/fish/completions/ringbell.fish',
  ]).action((shell: string, _options: object, command: Command) =>
    run(false, async (out) => out.write(SHELLS[shell]?.(grammarOf(command.parent ?? command)) ?? '')),
  )
}
