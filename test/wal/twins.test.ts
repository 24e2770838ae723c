// Goal: both engines write the same bytes and answer alike. Method: random operations on two logs at once, which change
// engines at each reopening; after each closing their segments and marks are compared, and the answers with a model in memory.
// What lies behind the records of a segment, how often the marks were written, and the files beside the log depend on time;
// and when what lives is moved does where several segments are filled in one turn: from then on only answers are compared, and of
// these only such as do not depend on which truncated entries came back.
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import type { LogEngine, LogRecord } from '../../src/ts/wal/engine.js';
import { segmentOfName, segmentSeed } from '../../src/ts/wal/format.js';
import { MARKS_NAME, readMarks } from '../../src/ts/wal/marks.js';
import { scanSegment } from '../../src/ts/wal/segment_scan.js';
import {
  append,
  type EngineName,
  engines,
  entriesOf,
  entry,
  filesOf,
  folderInMemory,
  identity,
  open,
  state,
  text,
} from './fixture.js';

type Operation =
  | { readonly type: 'append'; readonly appends: readonly (readonly LogRecord[])[] }
  | { readonly type: 'truncate'; readonly group: number; readonly before: number }
  | { readonly type: 'reopen' };

const body = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.integer({ min: 0, max: 3500 }).map((length) => new Uint8Array(length).fill(length)),
);
const GROUPS = [0, 1, 4_000_000_000];
const group = fc.constantFrom(...GROUPS);
const instance = fc.oneof({ weight: 9, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: fc.maxSafeNat() });
const record = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(group, instance, body).map(([g, i, bytes]) => entry(g, i, bytes)) },
  {
    weight: 1,
    arbitrary: fc.tuple(group, fc.nat(2), body).map(([g, slot, bytes]) => state(g, slot, bytes.slice(0, 30))),
  },
);
const oneAppend = fc.array(record, { maxLength: 4 }).filter((records) => bytesOf(records) < 3900);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .array(oneAppend, { minLength: 1, maxLength: 3 })
      .map((appends) => ({ type: 'append' as const, appends })),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('truncate' as const), group, before: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.constant({ type: 'reopen' as const }) },
);

function bytesOf(records: readonly LogRecord[]): number {
  return records.reduce((bytes, { body: parts }) => bytes + 48 + parts.reduce((sum, part) => sum + part.length, 0), 0);
}

/** What a log holds, as anybody would write it. */
class Model {
  readonly entries = new Map<number, Map<number, string>>();
  readonly states = new Map<string, string>();

  append({ kind, group, instance, body }: LogRecord): void {
    const bytes = Buffer.concat(body).toString('latin1');
    if (kind === 2) {
      this.states.set(`${group}/${instance}`, bytes);
      return;
    }
    const entries = this.entries.get(group) ?? new Map<number, string>();
    this.entries.set(group, entries.set(instance, bytes));
  }

  truncate(group: number, before: number): void {
    const entries = this.entries.get(group) ?? new Map<number, string>();
    for (const instance of entries.keys()) if (instance < before) entries.delete(instance);
  }
}

const other: Record<EngineName, EngineName> = { portable: 'native', native: 'portable' };

class Twin {
  private readonly folder: string;
  private readonly openLog: (engine: EngineName, folder: string) => Promise<LogEngine>;
  private log: LogEngine;
  /** Records were moved. */
  moved = false;

  constructor(folder: string, log: LogEngine, openLog: (engine: EngineName, folder: string) => Promise<LogEngine>) {
    this.folder = folder;
    this.log = log;
    this.openLog = openLog;
  }

  async perform(operation: Operation): Promise<void> {
    await this.log.settled();
    switch (operation.type) {
      case 'append':
        // All of one turn: one batch, whatever the engine.
        await Promise.all(operation.appends.map((records) => append(this.log, ...records)));
        break;
      case 'truncate':
        this.log.truncate(operation.group, operation.before);
        break;
      case 'reopen':
        await this.close();
        this.log = await this.openLog(other[this.log.engine], this.folder);
        break;
    }
  }

  /** All that can be asked, but for entries of the groups below an instance. */
  async answers(floors: ReadonlyMap<number, number>): Promise<unknown> {
    const all = await Promise.all(GROUPS.map((group) => entriesOf(this.log, group)));
    const entries = all.map((found, at) => {
      const floor = floors.get(GROUPS[at] ?? 0) ?? 0;
      return found.filter(([instance]) => instance >= floor);
    });
    const states = GROUPS.map((group) => [0, 1, 2].map((slot) => text(this.log.state(group, slot))));
    return { entries, states };
  }

  /** All that can be asked. */
  async allAnswers(): Promise<unknown> {
    const groups = this.log.groups();
    const entries = await Promise.all(groups.map((group) => entriesOf(this.log, group)));
    const states = groups.map((group) => [0, 1, 2].map((slot) => text(this.log.state(group, slot))));
    return { groups, bounds: groups.map((group) => this.log.bounds(group)), entries, states };
  }

  /** Whether records were moved, now that nothing is under way. */
  async hasMoved(): Promise<boolean> {
    await this.log.settled();
    this.moved ||= this.log.stats().rewritten_bytes > 0;
    return this.moved;
  }

  async held(group: number): Promise<Map<number, string>> {
    const entries = await this.log.readRange(group, 0, Number.MAX_SAFE_INTEGER, 1e9);
    return new Map(entries.map(({ instance, body }) => [instance, Buffer.from(body).toString('latin1')]));
  }

  state(group: number, slot: number): Uint8Array | null {
    return this.log.state(group, slot);
  }

  async close(): Promise<void> {
    await this.hasMoved();
    await this.log.close();
  }

  /** Records of all segments by name, and what the marks say. */
  written(): [string, unknown][] {
    const files = [...filesOf(this.folder)];
    const segments = files.map(([name, bytes]): [string, unknown][] => {
      const id = segmentOfName(name);
      if (id === null) return [];
      const { end } = scanSegment(bytes, id, segmentSeed(identity, id), 0, () => undefined);
      return [[name, bytes.subarray(0, end).toString('base64')]];
    });
    const { record } = readMarks(filesOf(this.folder).get(MARKS_NAME) ?? Buffer.alloc(0), identity);
    return [...segments.flat(), [MARKS_NAME, { ...record, sequence: 0 }]];
  }
}

const both = engines.length === 2 ? test : test.skip;

both('both engines leave the same bytes and give the same answers', async (t) => {
  t.timeout(120_000);
  const openHere = (engine: EngineName, folder: string) => open(t, engine, folder, { segment_bytes: 8192 });
  const property = fc.asyncProperty(fc.array(operation, { maxLength: 60, size: 'max' }), async (operations) => {
    const model = new Model();
    const twins: Twin[] = [];
    for (const engine of engines) {
      const folder = join(folderInMemory(t), 'log');
      twins.push(new Twin(folder, await openHere(engine, folder), openHere));
    }
    const [one, two] = twins;
    if (one === undefined || two === undefined) return;
    // Truncation is not durable: what came back is truncated again, and the model knows only the truncated.
    const truncated = new Map<number, number>();
    for (const step of operations) {
      await Promise.all([one.perform(step), two.perform(step)]);
      if (step.type === 'append') for (const records of step.appends) for (const each of records) model.append(each);
      if (step.type === 'truncate') {
        model.truncate(step.group, step.before);
        truncated.set(step.group, Math.max(step.before, truncated.get(step.group) ?? 0));
      }
      if (step.type !== 'reopen') continue;
      if (!one.moved && !two.moved) t.deepEqual(one.written(), two.written());
    }
    const moved = [await one.hasMoved(), await two.hasMoved()];
    t.deepEqual(await one.answers(truncated), await two.answers(truncated));
    if (!moved.includes(true)) t.deepEqual(await one.allAnswers(), await two.allAnswers());
    for (const [group, entries] of model.entries) {
      const floor = truncated.get(group) ?? 0;
      const held = await one.held(group);
      for (const [instance, bytes] of held) {
        // Below the floor older entries may have come back.
        if (instance >= floor) t.is(entries.get(instance), bytes);
      }
      for (const [instance, bytes] of entries) t.is(held.get(instance), bytes);
    }
    for (const [key, bytes] of model.states) {
      const [group, slot] = key.split('/').map(Number);
      t.is(Buffer.from(one.state(group ?? 0, slot ?? 0) ?? []).toString('latin1'), bytes);
    }
    await Promise.all([one.close(), two.close()]);
    if (!one.moved && !two.moved) t.deepEqual(one.written(), two.written());
  });
  await t.notThrowsAsync(fc.assert(property, { numRuns: 60 }));
});

both('what is moved is written alike', async (t) => {
  const written: [string, unknown][][] = [];
  for (const engine of engines) {
    const openHere = (name: EngineName, folder: string) => open(t, name, folder, { segment_bytes: 8192 });
    const folder = join(folderInMemory(t), 'log');
    const twin = new Twin(folder, await openHere(engine, folder), openHere);
    for (let instance = 1; instance <= 60; instance++) {
      const records = [
        entry(instance % 3, instance, Buffer.alloc(500 + 13 * instance, instance)),
        state(1, instance, 's'),
      ];
      await twin.perform({ type: 'append', appends: [records] });
      if (instance % 20 === 0) await twin.perform({ type: 'truncate', group: 0, before: instance });
      if (instance % 20 === 10) await twin.perform({ type: 'truncate', group: 1, before: instance });
    }
    await twin.close();
    t.true(twin.moved);
    written.push(twin.written());
  }
  t.deepEqual(written[0], written[1]);
});
