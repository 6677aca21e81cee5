/** The counters of a work queue as lines of a table, for `stats` and `inspect`. */
import type { QueueReport } from '../index.js'
import { count, counted } from './figures.js'

export function countersOfQueue(queue: QueueReport): [label: string, value: string][] {
  const { workers, waiting, delayed, assigned, pushed, acknowledged, redelivered, failed, withdrawn } = queue
  const { deadLetters, deadLettersDropped } = queue
  const lines: [string, string][] = [
    ['workers', count(workers)],
    ['jobs', `${counted(waiting, 'job')} waiting, ${count(delayed)} delayed, ${count(assigned)} with a worker`],
    ['so far', `${count(pushed)} pushed, ${count(acknowledged)} done, ${count(redelivered)} delivered again`],
  ]
  if (withdrawn > 0) lines.push(['withdrawn', counted(withdrawn, 'job')])
  const dropped = deadLettersDropped === 0 ? '' : `, ${count(deadLettersDropped)} more were dropped`
  lines.push(['failed', `${counted(failed, 'job')}, ${counted(deadLetters, 'dead letter')} kept${dropped}`])
  return lines
}

/** The beginning of a job in JSON's quotes, for a sentence. */
export function shownJob(head: Buffer, bytes: number): string {
  return `${JSON.stringify(head.toString())}${bytes > head.length ? '…' : ''}`
}

/** One line for each dead letter that a queue tells of. */
export function deadLetterLines({ letters }: QueueReport): string[][] {
  return letters.map(({ head, bytes, code, message, attempts }) => [
    shownJob(Buffer.from(head, 'base64'), bytes),
    counted(attempts, 'attempt'),
    code === undefined ? message : `${message} (${code})`,
  ])
}
