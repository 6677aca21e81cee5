/** `ringbell help [command]`: shows the help of a command. An unknown command is an error. */
import { Command } from 'commander'

export function help(): Command {
  return new Command('help')
    .summary('show the help of a command')
    .description('Shows the help of a command, or of the program, as --help does.')
    .argument('[command]', 'command name')
    .action((name: string | undefined, _options: object, command: Command) => {
      const program = command.parent ?? command
      const wanted = name === undefined ? program : program.commands.find((one) => one.name() === name)
      if (wanted === undefined) command.error(`error: unknown command '${name}'; ringbell --help lists them`)
      else wanted.outputHelp()
    })
}
