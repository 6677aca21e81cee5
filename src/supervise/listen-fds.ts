/**
 * Sockets that the service manager opened and passes on (systemd's socket activation). Without one there are none. The environment says how
 * many, and for which process; it is read once, and then removed, so that no program that this one starts takes them for its own.
 */
import { translated } from '../errors.js'
import { binding } from '../native.js'

/** A socket that this process was started with. */
export interface InheritedSocket {
  /** Its descriptor, for `server.listen({ fd })`. */
  readonly fd: number
  /** Its name: `FileDescriptorName=` of the socket unit, which is the name of that unit by default. */
  readonly name: string
}

/** The first descriptor after stdin, stdout and stderr. */
const FIRST = 3
const UNNAMED = 'unknown'

let inherited: readonly InheritedSocket[] | undefined

/**
 * The sockets that systemd passes to this process, in the order of its units. `[]`: it was not started by a socket. Programs that this
 * process starts do not get them.
 *
 * @throws {RingbellError} `ERR_RINGBELL_SYSTEM` if one of them is not open.
 */
export function listenFds(): readonly InheritedSocket[] {
  return (inherited ??= taken())
}

function taken(): InheritedSocket[] {
  const { LISTEN_PID: meant, LISTEN_FDS: told, LISTEN_FDNAMES: text = '' } = process.env
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete process.env[name]
  if (Number(meant) !== process.pid || !/^\d{1,4}$/.test(told ?? '')) return []
  const names = text === '' ? [] : text.split(':')
  const sockets = Array.from({ length: Number(told) }, (_, n) => ({ fd: FIRST + n, name: names[n] ?? UNNAMED }))
  for (const { fd } of sockets) translated(() => binding().keepDescriptor(fd))
  return sockets
}
