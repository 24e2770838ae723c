/**
 * The cursor up to which a fetch may be acknowledged when only some of its items are finished: the highest one such
 * that each item at or below it is finished, or null if there is none. Items of one cursor (servers exist that give one
 * cursor to a whole batch) are acknowledged together or not at all.
 */
export function acknowledgeableCursor(
  cursors: readonly bigint[],
  isFinished: (position: number) => boolean,
): bigint | null {
  const open = cursors.findIndex((_, position) => !isFinished(position));
  if (open === -1) return cursors.at(-1) ?? null;
  const bound = cursors[open];
  let acknowledgeable: bigint | null = null;
  for (const cursor of cursors.slice(0, open)) {
    if (bound !== undefined && cursor < bound) acknowledgeable = cursor;
  }
  return acknowledgeable;
}
