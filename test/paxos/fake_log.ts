/** A log whose disk is the test: appends are kept until their `done` is called. */
import type { LogEngine, RecoveryReport } from '../../src/ts/wal/engine.js';

export interface FakeAppend {
  readonly instances: readonly number[];
  readonly bytes: number;
  readonly done: (error: Error | null) => void;
}

export interface FakeLog {
  readonly log: LogEngine;
  readonly appends: readonly FakeAppend[];
  /** From now on every append throws this; null: none does. */
  refuse(error: Error | null): void;
}

export function fakeLog(recovery: Partial<RecoveryReport> = {}): FakeLog {
  const appends: FakeAppend[] = [];
  let refusal: Error | null = null;
  const log: LogEngine = {
    engine: 'portable',
    low_on_space: false,
    recovery: {
      segments: 0,
      records: 0,
      bytes: 0,
      torn_bytes: 0,
      corrupt: [],
      damaged_marks: 0,
      elapsed_ms: 0,
      ...recovery,
    },
    append(records, done) {
      if (refusal !== null) throw refusal;
      const bytes = records.reduce((sum, { body }) => sum + body.reduce((part, { length }) => part + length, 0), 0);
      appends.push({ instances: records.map(({ instance }) => instance), bytes, done });
    },
    groups: () => [],
    bounds: () => null,
    has: () => false,
    state: () => null,
    read: () => Promise.resolve(null),
    readRange: () => Promise.resolve([]),
    truncate: () => undefined,
    forgetDamage: () => undefined,
    stats: () => ({
      segments: 0,
      disk_bytes: 0,
      live_bytes: 0,
      appended_records: 0,
      appended_bytes: 0,
      rewritten_bytes: 0,
      syncs: 0,
      index_bytes: 0,
    }),
    settled: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  return {
    log,
    appends,
    refuse: (error) => {
      refusal = error;
    },
  };
}
