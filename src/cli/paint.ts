/** Colours (only on terminals, and never with NO_COLOR), and the form of failures on stderr. */
import { styleText } from 'node:util'
import { sentenceOf } from './exit-codes.js'

export type Style = Parameters<typeof styleText>[0]

/** Styles a text, or leaves it as it is. */
export type Paint = (style: Style, text: string) => string

export function paintFor(stream: NodeJS.WriteStream): Paint {
  // A terminal's own `hasColors` knows NO_COLOR, FORCE_COLOR and TERM.
  return stream.isTTY && stream.hasColors() ? styled : plain
}

/** Writes `ringbell: <what went wrong> (CODE)` to stderr. */
export function complain(error: unknown): void {
  process.stderr.write(`${paintFor(process.stderr)('red', 'ringbell:')} ${sentenceOf(error)}\n`)
}

function styled(style: Style, text: string): string {
  return styleText(style, text)
}

function plain(_style: Style, text: string): string {
  return text
}
