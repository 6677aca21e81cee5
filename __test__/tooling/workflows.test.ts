/** The CI files: they parse, every step is a script that is here, and actions are pinned to a commit. */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import { parse } from 'yaml'

interface Step {
  uses?: string
  run?: string
}
interface Job {
  'timeout-minutes'?: number
  /** Another workflow that is the whole job. */
  uses?: string
  steps?: Step[]
}
interface Workflow {
  name: string
  on: object
  permissions: object
  jobs: Record<string, Job>
}

const FOLDER = '.github/workflows'
const workflows = readdirSync(FOLDER).map((name) => ({ name, text: readFileSync(`${FOLDER}/${name}`, 'utf8') }))

for (const { name, text } of workflows) {
  const workflow = parse(text, { uniqueKeys: true }) as Workflow
  const steps = Object.values(workflow.jobs).flatMap((job) => job.steps ?? [])

  test(`${name}: jobs are bounded and have few rights`, (t) => {
    t.truthy(workflow.on)
    t.truthy(workflow.permissions)
    for (const [id, job] of Object.entries(workflow.jobs)) {
      t.true(job.uses?.startsWith('./') ?? (job['timeout-minutes'] ?? 999) <= 90, id)
    }
  })

  test(`${name}: a step that runs something runs one script of this repository`, (t) => {
    const runs = steps.flatMap(({ run }) => (run === undefined ? [] : [run]))
    t.true(runs.length > 0)
    for (const run of runs) {
      const path = /^(?:node )?((?:scripts|\.ci)\/[\w./-]+)[^\n&|;]*$/.exec(run.trim())?.[1]
      t.truthy(path, run)
      accessSync(path ?? '', run.startsWith('node ') ? constants.R_OK : constants.X_OK)
    }
  })

  test(`${name}: actions are pinned to a commit`, (t) => {
    for (const { uses } of steps) if (uses !== undefined) t.regex(uses, /@[0-9a-f]{40}$/)
  })
}
