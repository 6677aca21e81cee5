/** The options of `exportTo`, checked, and what it tells of a change. */
import { check, flag, type Rule, type Rules, signal, text } from '../check.js'
import type { SignalOptions } from '../wait/abort.js'
import type { ExportFormat, LeftOut, RenderOptions } from './format.js'
import { format, RENDER } from './render.js'

/** The text is another one, and the file was written. */
export interface ExportChange {
  /** Its path, as it was given. */
  readonly file?: string
  /** What is in it now. */
  readonly text: string
  /** How many services are in it. */
  readonly services: number
  /** The instances that the format has no way to write. */
  readonly leftOut: readonly LeftOut[]
}

/** What to write where. */
export interface ExportOptions extends RenderOptions, SignalOptions {
  /** The format. */
  format: ExportFormat
  /** The path of the file. Its folder must be there. Without it nothing is written, and `onChange` gets each text. */
  file?: string | undefined
  /**
   * Is called after each change of the file, also after the first one if the file was different before. One call at a time: while its promise is
   * pending, changes wait, and the next call tells the newest one. What it throws goes to `onError`, and harms nothing.
   */
  onChange?: ((change: ExportChange) => unknown) | undefined
  /** Calls `onChange` for the first text in any case, because whoever follows the file may not know it. By default `false`. */
  atStart?: boolean | undefined
  /** Is told what failed: writing the file or reading the bus, which are tried again, and what `onChange` throws. */
  onError?: ((error: Error) => void) | undefined
}

const CALLBACK: Rule = (value) => (typeof value === 'function' ? undefined : 'must be a function')
const EXPORT: Rules = {
  ...RENDER,
  format,
  file: text(4096),
  signal,
  onChange: CALLBACK,
  atStart: flag,
  onError: CALLBACK,
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function checkExport(options: ExportOptions): void {
  check(options, EXPORT)
}
