/**
 * `ringbell/export`: the services on a bus as files that other programs read, as a table of contents. What is not exported here is
 * not API.
 *
 * @module export
 */
export { command, type CommandOptions } from './command.js'
export { Exporter, exportTo } from './exporter.js'
export type { ExportFormat, LeftOut, RenderOptions } from './format.js'
export type { ExportChange, ExportOptions } from './options.js'
export { exportFormats, render } from './render.js'
