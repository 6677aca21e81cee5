/** `ringbell gc`: removes what dead processes left on the bus. */
import { Command } from 'commander'
import { counted } from '../figures.js'
import { runSession } from '../session.js'

export function gc(): Command {
  return new Command('gc')
    .summary('remove what dead processes left')
    .description(
      'Removes records, sockets and unfinished files of dead processes, never those of a living one. It may run at any time.',
    )
    .action((_options: object, command: Command) =>
      runSession(command, 'fail', async ({ bus, out }) => {
        const report = await bus.gc()
        if (out.json) return out.value(report)
        const { records, sockets, temporaries, alive, foreign } = report
        const removed = [
          counted(records, 'record'),
          counted(sockets, 'socket'),
          counted(temporaries, 'unfinished file'),
        ]
        const others = foreign > 0 ? `, ${counted(foreign, 'file')} of others left alone` : ''
        return out.line(`removed ${removed.join(', ')}; ${counted(alive, 'instance')} alive${others}`)
      }),
    )
}
