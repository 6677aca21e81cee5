/** Starts the processes of a group: with what they must know of their manager and place, and with their output where it belongs. */
import type { Bus } from '../index.js'
import type { GroupInstance, ServiceGroupOptions } from './group-options.js'
import { LogBook } from './log-book.js'
import { MEMBER_VARIABLE } from './names.js'
import type { ProcessHandle } from './process.js'
import { spawn } from './spawn.js'
import type { LineListener } from './stdio.js'

export class Launcher {
  readonly #bus: Bus
  readonly #options: ServiceGroupOptions
  readonly #manager: string
  #logs = new LogBook()

  /** `manager`: its id. */
  constructor(bus: Bus, options: ServiceGroupOptions, manager: string) {
    this.#bus = bus
    this.#options = { ...options, args: [...(options.args ?? [])] }
    this.#manager = manager
  }

  /** The last lines of all instances, if their output is read here. */
  get logs(): LogBook {
    return this.#logs
  }

  /** Who reads the logs gets what there is, and then the end. */
  endLogs(): void {
    this.#logs.close()
    this.#logs = new LogBook()
  }

  /** `snapshot`: that very instance as it is when it writes a line. */
  async launch(place: number, snapshot: () => GroupInstance): Promise<ProcessHandle> {
    const { command, args = [], cwd, uid, gid, tied, detached, env, stdio, output } = this.#options
    const instance = String(place)
    const member = JSON.stringify({ manager: this.#manager, instance })
    // The line may come before the promise of the handle resolves.
    let handle: ProcessHandle | undefined
    const listener: LineListener = (line, stream) => {
      this.#logs.add({ time: Date.now(), instance, pid: handle?.pid, stream, line })
      return output?.(line, stream, snapshot())
    }
    handle = await spawn(command, args, {
      cwd,
      uid,
      gid,
      tied,
      detached,
      stdio: output === undefined ? stdio : listener,
      env: { IPC_BUS_DIR: this.#bus.path, ...env, [MEMBER_VARIABLE]: member },
    })
    return handle
  }
}
