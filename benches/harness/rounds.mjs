// Alternation: every entry of a case gets one short window per round, in an order that rotates, so that a
// machine that speeds up or slows down does so to all of them. An entry that fails is reported as failed, with
// its reason; it never stops the others.

/**
 * An entry: { name, kind: 'ringbell' | 'rival' | 'floor', cores?, open?(), window({ warm, ms }), close?() }.
 * Gives the same entries as data: { name, kind, rounds: […], error? }. `line` of a round is the time of a cache line between the
 * entry's cores before and after the window, in nanoseconds.
 */
export async function alternate(entries, context) {
  // Two trees are compared: what both have is measured in one case.
  if (context.meet) return context.meet(entries, context)
  return takeTurns(entries, context)
}

/** As `alternate`, whatever else is going on. */
export async function takeTurns(entries, { rounds, warm, ms, say, title, lines }) {
  const data = entries.map((entry) => ({ name: entry.name, kind: entry.kind, rounds: [], ...entry.facts }))
  const opened = new Set()
  const fail = (index, error) => {
    data[index].error ??= String(error?.message ?? error)
    say(`  ${data[index].name}: ${data[index].error.split('\n')[0]}`)
  }
  try {
    for (const [index, entry] of entries.entries()) {
      say(`${title} · opening ${entry.name}`, true)
      opened.add(entry)
      await Promise.resolve(entry.open?.()).catch((error) => fail(index, error))
    }
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < entries.length; turn++) {
        const index = (turn + round) % entries.length
        if (data[index].error) continue
        say(`${title} · round ${round + 1}/${rounds} · ${entries[index].name}`, true)
        try {
          const before = await lines?.measure(entries[index].cores)
          // The first window also has to wait for the compiler.
          const window = await entries[index].window({ warm: round === 0 ? 3 * warm : warm, ms })
          const after = await lines?.measure(entries[index].cores)
          data[index].rounds[round] = after === undefined ? window : { ...window, line: [before, after] }
        } catch (error) {
          fail(index, error)
        }
      }
    }
  } finally {
    for (const entry of opened) await Promise.resolve(entry.close?.()).catch(() => {})
  }
  return data
}
