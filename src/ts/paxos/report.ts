/**
 * What a replica says of itself when two of them meet, and its form as JSON (docs/internals/forming.md). A *birth* names
 * the life of a data folder: whoever lost what it had said gets a new one.
 */

/** 64 random bits as 16 lower-case hexadecimal digits. */
export type Birth = string;

/** The births of the founders by their places in the configuration; null where a birth is not known. */
export type FounderList = readonly (Birth | null)[];

/** What a replica says of itself. Everything but `position` is on its disk before it is said. */
export interface Report {
  readonly birth: Birth;
  /** Rises with every start of the process. */
  readonly start: number;
  /** 64 random bits of this start: two starts with one number are told apart. */
  readonly run: string;
  /** How much of what this birth has said is durable; never falls in the life of a birth. */
  readonly position: number;
  /** The founders that this birth agreed to: once, and never to others. */
  readonly agreed: FounderList | null;
  /** The founders of the cluster that this replica knows to exist. */
  readonly formed: FounderList | null;
  /** The lowest id under which it votes in a group, of a founder its place; null if it has no vote. */
  readonly member: number | null;
}

const BIRTH = /^[0-9a-f]{16}$/;

export function isBirth(value: unknown): value is Birth {
  return typeof value === 'string' && BIRTH.test(value);
}

export function sameFounders(one: FounderList, other: FounderList): boolean {
  return one.length === other.length && one.every((birth, index) => birth === other[index]);
}

/** The report in a parsed JSON object, or null if it is none of `replicas` replicas. */
export function reportFrom(parsed: unknown, replicas: number): Report | null {
  if (typeof parsed !== 'object' || parsed === null) return null;
  if (!('birth' in parsed && 'start' in parsed && 'run' in parsed && 'position' in parsed)) return null;
  if (!('agreed' in parsed && 'formed' in parsed && 'member' in parsed)) return null;
  const { birth, start, run, position, member } = parsed;
  const agreed = foundersFrom(parsed.agreed, replicas);
  const formed = foundersFrom(parsed.formed, replicas);
  if (!isBirth(birth) || !isBirth(run) || agreed === undefined || formed === undefined) return null;
  if (!isCount(start) || start < 1 || !isCount(position)) return null;
  if (member !== null && !(isCount(member) && member >= 1)) return null;
  return { birth, start, run, position, agreed, formed, member };
}

/** A list as parsed from JSON; undefined if it is neither null nor a list of `replicas` births. */
export function foundersFrom(value: unknown, replicas: number): FounderList | null | undefined {
  if (value === null) return null;
  if (!Array.isArray(value) || value.length !== replicas) return undefined;
  const list: (Birth | null)[] = [];
  for (const birth of value) {
    if (birth !== null && !isBirth(birth)) return undefined;
    list.push(birth);
  }
  return list;
}

export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
