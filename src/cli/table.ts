/** Plain columns for terminals and for grep: two spaces between them, no lines. Colours do not count as width. */
import { stripVTControlCharacters } from 'node:util'

/** Lines of a table; the last column is not padded. */
export function columns(rows: readonly (readonly string[])[], rightAligned: readonly number[] = []): string[] {
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, width(cell))))
  return rows.map((row) => {
    const cells = row.map((cell, at) => {
      const padding = ' '.repeat((widths[at] ?? 0) - width(cell))
      if (rightAligned.includes(at)) return padding + cell
      return at === row.length - 1 ? cell : cell + padding
    })
    return cells.join('  ').trimEnd()
  })
}

function width(cell: string): number {
  return stripVTControlCharacters(cell).length
}
