// @ts-check
/**
 * Reads a tool's output: how many of its tests passed, failed and were skipped. A tool that failed without naming a failed
 * test counts as one failure. So does a tool that ran no tests: a suite that silently disappears must not pass.
 */

/** @typedef {{ passed: number, failed: number, skipped: number }} Outcome */

/** @param {string} text @param {RegExp} pattern global, with one number */
function sum(text, pattern) {
  return [...text.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0)
}

/** @param {Outcome} outcome @param {number} code @returns {Outcome} */
function judged(outcome, code) {
  const silent = outcome.failed === 0 && (code !== 0 || outcome.passed === 0)
  return silent ? { ...outcome, failed: 1 } : outcome
}

/**
 * The output of libtest, by `cargo test`. libtest cannot skip a test at run time. So it counts a test that needs root and
 * does not have it as passed, but that test has written a line (`needs_root` in crates/core/tests/harness).
 * @param {string} text @param {number} code
 */
export function cargoOutcome(text, code) {
  const passed = sum(text, /^test result: .*? (\d+) passed;/gm)
  const failed = sum(text, /^test result: .*? (\d+) failed;/gm)
  const ignored = sum(text, /^test result: .*? (\d+) ignored;/gm)
  const untested = [...text.matchAll(/^\*\*\* NOT TESTED, .*\*\*\*$/gm)].length
  return judged({ passed: passed - untested, failed, skipped: ignored + untested }, code)
}

/**
 * The output of ava's own reporter: a line for each test, and for each test that had not ended when a watchdog fired. Its
 * TAP reporter stops there (ava 7.0.0, `writeTimeout`), and does not name that test.
 * @param {string} text @param {number} code
 */
export function avaOutcome(text, code) {
  const lines = text.split('\n')
  const count = (/** @type {RegExp} */ pattern) => lines.filter((line) => pattern.test(line)).length
  const failed = count(/^ *[✘×] \[fail\]: /) + count(/^ *(◌|\( \)) /)
  return judged({ passed: count(/^ *[✔√] /), failed, skipped: count(/^ *- \[(skip|todo)\] /) }, code)
}

/**
 * The names of the tests that failed, by `cargo test`.
 * @param {string} text
 */
export function cargoFailures(text) {
  return [
    ...new Set([...text.matchAll(/^test (\S+)(?: - should panic)? \.\.\. FAILED$/gm)].map(([, name = '']) => name)),
  ]
}

/**
 * The files of the tests that failed, by ava's reporter. It writes the path of a file before the title, with `›` for `/`,
 * unless there was only one file.
 * @param {string} text @param {(file: string) => boolean} isFile
 */
export function avaFailures(text, isFile) {
  const titles = [...text.matchAll(/^ *(?:[✘×] \[fail\]:|◌|\( \)) (.*)$/gm)].map(([, title = '']) => title.split(' › '))
  const files = titles.map((words) => {
    const paths = words.map((_, index) => `__test__/${words.slice(0, index + 1).join('/')}.test.ts`)
    return paths.find((path) => isFile(path))
  })
  return [...new Set(files.filter((file) => file !== undefined))]
}

/** A check: it passes or fails. @param {string} _text @param {number} code @returns {Outcome} */
export function checkOutcome(_text, code) {
  return code === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 }
}
