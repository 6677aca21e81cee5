/** The option `--header name=value` of the commands that send something. What may be sent is checked by the API. */
import type { Command } from 'commander'
import type { MessageHeaders } from '../index.js'
import { invalidArgument } from './exit-codes.js'

export interface HeaderFlags {
  header?: MessageHeaders
}

export function withHeaders(command: Command, what: string): Command {
  return command.option(
    '-H, --header <name=value>',
    `a header to send with ${what}; may be given several times`,
    (text: string, others: MessageHeaders | undefined) => ({ ...others, ...parseHeader(text) }),
  )
}

function parseHeader(text: string): MessageHeaders {
  const at = text.indexOf('=')
  if (at < 1) throw invalidArgument('It is a name and a value, such as tenant=acme.')
  return { [text.slice(0, at)]: text.slice(at + 1) }
}

/** The field `headers` of JSON, if there are some. */
export function headerField(headers: MessageHeaders): { headers?: MessageHeaders } {
  return Object.keys(headers).length === 0 ? {} : { headers }
}

/** Headers as people read them. */
export function shownHeaders(headers: MessageHeaders): string {
  return Object.entries(headers)
    .map(([name, value = '']) => `${name}=${value}`)
    .join(' ')
}
