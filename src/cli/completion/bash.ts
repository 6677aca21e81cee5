/** Completion for bash: one function finds the typed command and offers what may come next. */
import type { Flag, Grammar, Value, Verb } from './grammar.js'

export function bash({ globals, commands }: Grammar): string {
  return `# ringbell completion bash: source it, or put it into /etc/bash_completion.d
_ringbell() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command='' word at=0 i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $command:$word in
      ${patterns([...withValue('*', globals), ...commands.flatMap(({ name, flags }) => withValue(name, flags))])}) ((i++)) ;;
      *:-*) ;;
      :*) command=$word ;;
      *) ((at++)) ;;
    esac
  done
  case $command:$prev in
${[...globals.flatMap((flag) => ofFlag('*', flag)), ...commands.flatMap(({ name, flags }) => flags.flatMap((flag) => ofFlag(name, flag)))].map(indented).join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case $command in
${commands.map((verb) => `      ${verb.name}) ${words(namesOf([...verb.flags, ...globals]))} ;;`).join('\n')}
      *) ${words(namesOf(globals))} ;;
    esac
    return
  fi
  case $command:$at in
    :*) ${words(commands.map(({ name }) => name))} ;;
${commands.flatMap(ofWords).map(indented).join('\n')}
  esac
}
_ringbell_services() {
  COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" ls 2> /dev/null | sed 1d | cut -d ' ' -f 1 | sort -u)" -- "$1"))
}
complete -F _ringbell ringbell
`
}

function withValue(command: string, flags: readonly Flag[]): string[] {
  return flags
    .filter(({ value }) => value !== undefined)
    .flatMap(({ names }) => names.map((name) => `${command}:${name}`))
}

function ofFlag(command: string, { names, value }: Flag): string[] {
  if (value === undefined) return []
  return [`${patterns(names.map((name) => `${command}:${name}`))}) ${reply(value)}; return ;;`]
}

function ofWords({ name, words: places }: Verb): string[] {
  return places.map(({ value, variadic }, at) => `${name}:${variadic ? '*' : at}) ${reply(value)} ;;`)
}

function reply(value: Value): string {
  switch (value.kind) {
    case 'choices':
      return words(value.choices)
    case 'file':
      return 'COMPREPLY=($(compgen -f -- "$cur"))'
    case 'folder':
      return 'COMPREPLY=($(compgen -d -- "$cur"))'
    case 'command':
      return 'COMPREPLY=($(compgen -c -- "$cur"))'
    case 'service':
      return '_ringbell_services "$cur"'
    case 'text':
      return ':'
  }
}

function words(list: readonly string[]): string {
  return `COMPREPLY=($(compgen -W '${list.join(' ')}' -- "$cur"))`
}

function namesOf(flags: readonly Flag[]): string[] {
  return flags.flatMap(({ names }) => names)
}

/** The `*` stays a pattern. Names of commands and options contain no other pattern. */
function patterns(list: readonly string[]): string {
  return list.join('|')
}

function indented(line: string): string {
  return `    ${line}`
}
