/** Completion for zsh, with its own function `_arguments`. */
import type { Flag, Grammar, Value, Verb } from './grammar.js'

export function zsh({ globals, commands }: Grammar): string {
  return `#compdef ringbell
# ringbell completion zsh: put it into a folder of $fpath as _ringbell, or source it behind compinit
_ringbell_services() {
  local -a names
  names=(\${(fu)"$(ringbell ls 2> /dev/null | sed 1d | cut -d ' ' -f 1)"})
  compadd -a names
}
_ringbell() {
  local curcontext=$curcontext state line
  local -a globals commands
  globals=(
${globals
  .flatMap(specs)
  .map((one) => `    ${one}`)
  .join('\n')}
  )
  commands=(
${commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`).join('\n')}
  )
  _arguments -C $globals '1: :->command' '*:: :->words'
  case $state in
    command) _describe command commands ;;
    words)
      case $line[1] in
${commands.map(ofVerb).join('\n')}
      esac ;;
  esac
}
if [ "$funcstack[1]" = _ringbell ]; then _ringbell "$@"; else compdef _ringbell ringbell; fi
`
}

function ofVerb({ name, flags, words }: Verb): string {
  const places = words.map(({ name: word, value, variadic }, at) =>
    quoted(`${variadic ? '*' : at + 1}:${word}:${action(value)}`),
  )
  return `        ${name}) _arguments $globals ${[...flags.flatMap(specs), ...places].join(' ')} ;;`
}

function specs({ names, description, value }: Flag): string[] {
  const text = description.replace(/[[\]:\\]/g, '\\$&')
  const takes = value === undefined ? '' : `:value:${action(value)}`
  return names.map((name) => quoted(`${name}[${text}]${takes}`))
}

function action(value: Value): string {
  switch (value.kind) {
    case 'choices':
      return `(${value.choices.join(' ')})`
    case 'file':
      return '_files'
    case 'folder':
      return '_files -/'
    case 'command':
      return '_command_names -e'
    case 'service':
      return '_ringbell_services'
    case 'text':
      return ' '
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
