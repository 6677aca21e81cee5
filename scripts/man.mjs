// @ts-check
/**
 * The man page ringbell(1). It is made from the table that parses the command line, so it says the same as --help. The
 * build puts it into dist, and package.json names it.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMain, ROOT, script } from './project.mjs'

const DIST = join(ROOT, 'dist')

/** The man page of the built command line. */
export async function manPage() {
  const [{ EXIT_CODES }, { shownCommands }, { examplesOf }, { createProgram }] = await Promise.all(
    ['exit-codes', 'help', 'manual', 'program'].map((name) => import(`${DIST}/cli/${name}.js`)),
  )
  const program = createProgram()
  const commands = shownCommands(program)
  return `${[
    `.TH RINGBELL 1 "" "ringbell ${program.version()}" "User Commands"`,
    '.SH NAME',
    `ringbell \\- messages through shared memory between processes of one Linux machine`,
    '.SH SYNOPSIS',
    `.B ringbell`,
    text(
      program
        .createHelp()
        .commandUsage(program)
        .replace(/^ringbell /, ''),
    ),
    '.SH DESCRIPTION',
    text(program.description()),
    '.SH OPTIONS',
    'Every command has these options. They may be before or after its name.',
    ...items(program),
    '.SH COMMANDS',
    .../** @type {any[]} */ (commands).flatMap((command) => [
      `.SS ${text(usageOf(command))}`,
      text(command.description()),
      ...items(command),
      ...paragraph(example(examplesOf(command))),
    ]),
    '.SH EXIT STATUS',
    .../** @type {[string, string][]} */ (EXIT_CODES).flatMap(([code, meaning]) => [
      '.TP',
      `.B ${code}`,
      text(meaning),
    ]),
    '.SH EXAMPLES',
    ...example(examplesOf(program)),
    '.SH ENVIRONMENT',
    ...[
      ['IPC_BUS_DIR', 'the bus directory'],
      ['XDG_RUNTIME_DIR', 'where the bus directory of a user is without IPC_BUS_DIR'],
      ['NO_COLOR', 'no colours on terminals'],
    ].flatMap(([name = '', meaning = '']) => ['.TP', `.B ${text(name)}`, text(meaning)]),
  ].join('\n')}\n`
}

/** @param {any} command */
function usageOf(command) {
  return `${command.name()} ${command.usage()}`
}

/** Arguments and options, as the help lists them. @param {any} command @returns {string[]} */
function items(command) {
  const help = command.createHelp()
  return [
    ...help
      .visibleArguments(command)
      .map((/** @type {any} */ one) => [help.argumentTerm(one), help.argumentDescription(one)]),
    ...help
      .visibleOptions(command)
      .map((/** @type {any} */ one) => [help.optionTerm(one), help.optionDescription(one)]),
  ].flatMap(([term, description]) => ['.TP', `.B ${text(term)}`, text(description)])
}

/** @param {readonly string[]} lines @returns {string[]} */
function example(lines) {
  return lines.length === 0 ? [] : ['.EX', ...lines.map(text), '.EE']
}

/** @param {readonly string[]} lines @returns {string[]} */
function paragraph(lines) {
  return lines.length === 0 ? [] : ['.PP', ...lines]
}

/** The text in roff: hyphens can be copied, and no line is a request. @param {string} words */
function text(words) {
  return words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/^\./, '\\&.')
    .replace(/\P{ASCII}/gu, (one) => `\\[u${(one.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`)
}

/** Writes the man page beside the built command line. */
export async function writeManPage() {
  writeFileSync(join(DIST, 'ringbell.1'), await manPage())
}

if (isMain(import.meta.url)) await script(writeManPage)
