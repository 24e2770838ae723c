/**
 * What was asked of a log, and hence what may be found in it after a crash: the appends up to some moment, which is not before
 * the last one that was reported durable. Of truncated entries nothing is promised, but that their bodies are true.
 */
import { type LogEngine, type LogRecord, RecordKind } from '../../src/ts/wal/engine.js';

interface Version {
  /** Number of the append. */
  readonly append: number;
  readonly body: Buffer;
}

interface Truncation {
  readonly group: number;
  readonly before: number;
  /** Number of appends that were asked for earlier. */
  readonly after: number;
}

/** What may be found after a crash at one moment. */
export interface LedgerState {
  readonly appends: readonly (readonly LogRecord[])[];
  readonly truncations: readonly Truncation[];
  /** The first so many appends are durable. */
  readonly durable: number;
}

/** Bodies by key, as a log gives them. */
export type Found = ReadonlyMap<string, Buffer>;

export class Ledger {
  private appends: (readonly LogRecord[])[];
  private truncations: Truncation[];
  private durable: number;

  constructor({ appends, truncations, durable }: LedgerState = { appends: [], truncations: [], durable: 0 }) {
    this.appends = [...appends];
    this.truncations = [...truncations];
    this.durable = durable;
  }

  /** Number of the append that comes next. */
  get next(): number {
    return this.appends.length;
  }

  state(): LedgerState {
    return { appends: [...this.appends], truncations: [...this.truncations], durable: this.durable };
  }

  append(records: readonly LogRecord[]): void {
    this.appends.push(records);
  }

  /** Append `number` was reported durable. */
  noteDurable(number: number): void {
    if (number !== this.durable) throw new Violation(`append ${number} is reported before append ${this.durable}`);
    this.durable++;
  }

  truncate(group: number, before: number): void {
    this.truncations.push({ group, before, after: this.appends.length });
  }

  /** The log was opened again and holds the first `count` appends: the others never come back. */
  reopened(count: number): void {
    this.appends = this.appends.slice(0, count);
    this.durable = count;
    this.truncations = this.truncations.map((each) => ({ ...each, after: Math.min(each.after, count) }));
  }
}

/** Something that must never be found. */
export class Violation extends Error {}

/** Everything in the log under the groups and slots that were ever used. */
export async function readAll(log: LogEngine, state: LedgerState): Promise<Found> {
  const found = new Map<string, Buffer>();
  for (const group of log.groups()) {
    const entries = await log.readRange(group, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    for (const { instance, body } of entries) found.set(`entry ${group}/${instance}`, Buffer.from(body));
  }
  for (const { kind, group, instance } of state.appends.flat()) {
    if (kind !== RecordKind.state) continue;
    const body = log.state(group, instance);
    if (body !== null) found.set(`state ${group}/${instance}`, Buffer.from(body));
  }
  return found;
}

/**
 * Checks what was found; returns how many appends the log holds.
 *
 * @throws Violation
 */
export function checkFound(state: LedgerState, found: Found): number {
  const versions = versionsOf(state.appends);
  let held = state.durable;
  for (const [key, body] of found) {
    const version = versions.get(key)?.find((each) => each.body.equals(body));
    if (version === undefined)
      throw new Violation(`${key} was never appended with ${body.length} bytes ${excerpt(body)}`);
    held = Math.max(held, version.append + 1);
  }
  for (const [key, all] of versions) {
    const expected = all.findLast((version) => version.append < held);
    const body = found.get(key);
    if (expected === undefined || body?.equals(expected.body) || isTruncated(state, key, expected)) continue;
    const durable = expected.append < state.durable ? 'durable' : `held, as append ${held - 1} is`;
    const instead = body === undefined ? 'missing' : `found as ${excerpt(body)}`;
    throw new Violation(`${key} of append ${expected.append} is ${durable}, and it is ${instead}`);
  }
  return held;
}

function excerpt(body: Buffer): string {
  return `"${body.toString('latin1', 0, 12)}"`;
}

function isTruncated({ truncations }: LedgerState, key: string, version: Version): boolean {
  const [, group, instance] = /^entry (\d+)\/(\d+)$/.exec(key) ?? [];
  if (group === undefined) return false;
  return truncations.some((each) => {
    return each.group === Number(group) && Number(instance) < each.before && version.append < each.after;
  });
}

function versionsOf(appends: LedgerState['appends']): Map<string, Version[]> {
  const versions = new Map<string, Version[]>();
  appends.forEach((records, append) => {
    for (const { kind, group, instance, body } of records) {
      const key = `${kind === RecordKind.entry ? 'entry' : 'state'} ${group}/${instance}`;
      const all = versions.get(key) ?? [];
      if (all.length === 0) versions.set(key, all);
      all.push({ append, body: Buffer.concat(body) });
    }
  });
  return versions;
}
