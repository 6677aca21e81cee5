/** Completion for fish: one line for each thing that may be typed. */
import type { Flag, Grammar, Value, Verb } from './grammar.js'

export function fish({ globals, commands }: Grammar): string {
  const lines = [
    '# ringbell completion fish: put it into ~/.config/fish/completions/ringbell.fish',
    'function __ringbell_services',
    "    ringbell ls 2>/dev/null | string replace --regex ' .*' '' | tail -n +2 | sort -u",
    'end',
    'complete -c ringbell -f',
    `set -g __ringbell_commands ${commands.map(({ name }) => name).join(' ')}`,
    ...globals.map((flag) => ofFlag('', flag)),
    ...commands.map(
      ({ name, summary }) =>
        `complete -c ringbell -n 'not __fish_seen_subcommand_from $__ringbell_commands' -a ${name} -d ${quoted(summary)}`,
    ),
    ...commands.flatMap(ofVerb),
  ]
  return `${lines.join('\n')}\n`
}

function ofVerb({ name, flags, words }: Verb): string[] {
  const condition = ` -n '__fish_seen_subcommand_from ${name}'`
  return [
    ...flags.map((flag) => ofFlag(condition, flag)),
    // fish does not know the position of an argument, so it offers the values of all of them.
    ...words
      .map(({ value }) => takes(value))
      .filter((what) => what !== '')
      .map((what) => `complete -c ringbell${condition} ${what}`),
  ]
}

function ofFlag(condition: string, { names, description, value }: Flag): string {
  const spelled = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`))
  const what = value === undefined ? '' : ` ${value.kind === 'file' ? '-r' : '-x'} ${takes(value)}`.trimEnd()
  return `complete -c ringbell${condition} ${spelled.join(' ')}${what} -d ${quoted(description)}`
}

function takes(value: Value): string {
  switch (value.kind) {
    case 'choices':
      return `-a ${quoted(value.choices.join(' '))}`
    case 'file':
      return '-F'
    case 'folder':
      return "-a '(__fish_complete_directories)'"
    case 'command':
      return "-a '(__fish_complete_command)'"
    case 'service':
      return "-a '(__ringbell_services)'"
    case 'text':
      return ''
  }
}

function quoted(text: string): string {
  return `'${text.replace(/['\\]/g, '\\$&')}'`
}
