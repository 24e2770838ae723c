/** Medians and ratios of rounds. */
import { assert } from '../../src/ts/errors.js';
import { type Figures, hasFigures } from './command.js';

/** The median; of an even number the mean of the middle two, NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  const lower = sorted[Math.floor(half)] ?? Number.NaN;
  const upper = sorted[Math.ceil(half)] ?? Number.NaN;
  return (lower + upper) / 2;
}

/** The median of each figure over the rounds. */
export function medians<K extends string>(rounds: readonly Figures<K>[], keys: readonly K[]): Figures<K> {
  const found: Figures = Object.fromEntries(keys.map((key) => [key, median(rounds.map((round) => round[key]))]));
  assert(hasFigures(found, keys), 'each figure has its median');
  return found;
}

/** The median over the rounds of over[i] / under[i]: what drifts from round to round cancels out. */
export function medianRatio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, round) => value / (under[round] ?? Number.NaN)));
}

/** Of values that are sorted already; NaN of none. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
