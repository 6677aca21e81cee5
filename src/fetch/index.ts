/**
 * `ringbell/fetch`: requests to the name of a service instead of a host, with undici, which is a package of its own.
 *
 * @module fetch
 */
export { BusDispatcher, type BusDispatcherOptions } from './dispatcher.js'
