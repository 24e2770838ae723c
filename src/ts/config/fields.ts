/**
 * Building blocks of the schemas: a field says how a value of a configuration file becomes a typed one. All problems go
 * to the reporter; if that does not throw, reading goes on with the default.
 */
import { isIPv4 } from 'node:net';
import { nearestName } from './nearest.js';
import type { Place, Reporter } from './report.js';

/** Where a value stands, and who hears about problems with it. */
export interface Context extends Place {
  readonly report: Reporter;
}

/** How to read values of type T. */
export interface Field<T> {
  /** Reads a value that is there. */
  read(value: unknown, at: Context): T;
  /** The value where there is none. */
  absent(at: Context): T;
}

/** The type of the values of a field. */
export type ValueOf<F> = F extends Field<infer T> ? T : never;

type Shape = Readonly<Record<string, Field<unknown>>>;
type ShapeValue<S extends Shape> = { readonly [Key in keyof S]: ValueOf<S[Key]> };

const INT32_MAX = 0x7fff_ffff;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** Smallest and largest value of a number. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** A 32-bit integer, written as a number or in quotes. Without a range: 0 and above. */
export function int32(fallback = 0, { min = 0, max = INT32_MAX }: Range = {}): Field<number> {
  return {
    absent: () => fallback,
    read: (value, at) => {
      const number = integerOf(value);
      if (number === null) {
        at.report.error(at, `${show(value)} is not a whole number`, `give a number from ${min} to ${max}`);
        return fallback;
      }
      if (number < min || number > max) {
        at.report.error(at, `${show(value)} is out of range`, `give a number from ${min} to ${max}`);
        return fallback;
      }
      return Number(number);
    },
  };
}

/** 0 or 1. */
export function flag(fallback: 0 | 1): Field<number> {
  return int32(fallback, { max: 1 });
}

/** A TCP port. */
export function port({ min = 1, fallback = 0 } = {}): Field<number> {
  return int32(fallback, { min, max: 65_535 });
}

/** An unsigned 64-bit integer; above 2^53 it has to be in quotes, as numbers lose digits there. */
export function uint64(fallback: bigint): Field<bigint> {
  return {
    absent: () => fallback,
    read: (value, at) => {
      const number = integerOf(value);
      if (number !== null && number >= 0n && number <= U64_MAX && (typeof value !== 'number' || number < 2n ** 53n)) {
        return number;
      }
      const fix = `give a number from 0 to ${U64_MAX}, in quotes if it is 2^53 or more`;
      at.report.error(at, `${show(value)} is not such a number`, fix);
      return fallback;
    },
  };
}

export function text(fallback = ''): Field<string> {
  return {
    absent: () => fallback,
    read: (value, at) => {
      if (typeof value === 'string') return value;
      at.report.error(at, `${show(value)} is not a text`, 'put it in quotes');
      return fallback;
    },
  };
}

/** A text that has to be there and not be empty. */
export function name(fix = 'add it'): Field<string> {
  const read = (value: unknown, at: Context): string => {
    const found = text().read(value, at);
    if (value === '') at.report.error(at, 'is empty', fix);
    return found;
  };
  return required({ read, absent: () => '' }, fix);
}

/** One of a few words. */
export function choice<const Word extends string>(words: readonly Word[], fallback: Word): Field<Word> {
  return {
    absent: () => fallback,
    read: (value, at) => {
      const word = words.find((candidate) => candidate === value);
      if (word === undefined) at.report.error(at, `${show(value)} is unknown`, `give one of ${words.join(', ')}`);
      return word ?? fallback;
    },
  };
}

/** A dotted IPv4 address: the hash rings of the clients are computed from its four bytes. */
export function ipv4(fallback = ''): Field<string> {
  return {
    absent: () => fallback,
    read: (value, at) => {
      if (typeof value === 'string' && isIPv4(value)) return value;
      at.report.error(at, `${show(value)} is not an IPv4 address`, 'give four numbers from 0 to 255, such as 10.0.0.1');
      return fallback;
    },
  };
}

/** A field that has to be there. */
export function required<T>(field: Field<T>, fix = 'add it'): Field<T> {
  return {
    read: field.read,
    absent: (at) => {
      at.report.error(at, 'missing', fix);
      return field.absent(at);
    },
  };
}

/** A field that may be missing altogether: null then. */
export function optional<T>(field: Field<T>): Field<T | null> {
  return { read: field.read, absent: () => null };
}

/** A list; a missing one is empty. */
export function list<T>(element: Field<T>): Field<readonly T[]> {
  return {
    absent: () => [],
    read: (value, at) => {
      if (Array.isArray(value)) return value.map((each, i) => element.read(each, within(at, `${at.key}[${i}]`)));
      at.report.error(at, `${show(value)} is not a list`, 'put it in [ ]');
      return [];
    },
  };
}

/** An object with known keys, each spelt in snake_case or lowerCamelCase. A missing one is read as an empty one. */
export function message<const S extends Shape>(shape: S): Field<ShapeValue<S>> {
  const spellings = new Map(Object.keys(shape).flatMap((key) => [[key, key] as const, [camelCase(key), key] as const]));
  const read = (value: unknown, at: Context): ShapeValue<S> => {
    const given = givenKeys(value, spellings, at);
    const values = Object.entries(shape).map(([key, field]) => {
      const child = childOf(at, key);
      const raw = given.get(key);
      return [key, raw === undefined || raw === null ? field.absent(child) : field.read(raw, child)];
    });
    // Each key of the shape got the value of its field; Object.fromEntries forgets that.
    return Object.fromEntries(values) as ShapeValue<S>;
  };
  return { read, absent: (at) => read({}, at) };
}

function givenKeys(value: unknown, spellings: ReadonlyMap<string, string>, at: Context): Map<string, unknown> {
  const given = new Map<string, unknown>();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    at.report.error(at, `${show(value)} is not an object`, 'put its keys in { }');
    return given;
  }
  for (const [spelling, raw] of Object.entries(value)) {
    const key = spellings.get(spelling);
    if (key === undefined) reportUnknown(spelling, new Set(spellings.values()), at);
    else if (given.has(key)) at.report.oversight(childOf(at, spelling), 'given in both spellings', 'remove one');
    else given.set(key, raw);
  }
  return given;
}

function reportUnknown(key: string, known: Iterable<string>, at: Context): void {
  const nearest = nearestName(key, known);
  const fix = nearest === undefined ? 'remove it' : `did you mean ${nearest}?`;
  at.report.oversight(childOf(at, key), 'unknown key', fix);
}

function childOf(at: Context, key: string): Context {
  return within(at, at.key === '' ? key : `${at.key}.${key}`);
}

function within(at: Context, key: string): Context {
  return { file: at.file, report: at.report, key };
}

/** The spelling of a key that protobuf's JSON uses. */
export function camelCase(key: string): string {
  return key.replaceAll(/_+(.?)/g, (_, next: string) => next.toUpperCase());
}

function integerOf(value: unknown): bigint | null {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : null;
  if (typeof value === 'string' && /^[+-]?\d{1,20}$/.test(value)) return BigInt(value.replace('+', ''));
  return null;
}

function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return shown.length <= 60 ? shown : `${shown.slice(0, 57)}...`;
}
