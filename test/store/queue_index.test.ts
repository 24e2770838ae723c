import test from 'ava';
import fc from 'fast-check';
import { QueueIndex } from '../../src/ts/store/queue_index.js';

const bytes_max = Number.MAX_SAFE_INTEGER;

function filled(items: number): QueueIndex {
  const index = new QueueIndex();
  for (let i = 1; i <= items; i++) index.append(i * 10, i, i % 7, 100);
  return index;
}

test('entries come back after any cursor, across chunks', (t) => {
  const index = filled(10_000);
  t.deepEqual(index.after(0, 1, bytes_max), [{ cursor: 10, instance: 1, offset: 1, item_bytes: 100 }]);
  t.deepEqual(index.after(50_005, 1, bytes_max)[0]?.cursor, 50_010);
  t.deepEqual(
    index.after(40_950, 3, bytes_max).map((entry) => entry.cursor),
    [40_960, 40_970, 40_980],
  );
  t.deepEqual(index.after(100_000, 5, bytes_max), []);
  t.is(index.countAfter(99_990), 1);
  t.is(index.lastCursor, 100_000);
});

test('after stops at the byte limit but returns one entry', (t) => {
  const index = filled(10);
  t.is(index.after(0, 10, 250).length, 3);
  t.is(index.after(0, 10, 1).length, 1);
});

test('an entry takes at most 24 bytes, a queue with one item half a KiB', (t) => {
  t.true(filled(100_000).memoryBytes / 100_000 <= 24);
  t.is(filled(1).memoryBytes, 512);
});

test('trim drops what is consumed and keeps the asked number', (t) => {
  const index = filled(10_000);
  t.is(index.trim(50_000, 0), 5_000);
  t.is(index.firstCursor, 50_010);
  t.is(index.trim(100_000, 100), 4_900);
  t.is(index.items, 100);
  t.is(index.after(0, 1, bytes_max)[0]?.cursor, 99_010);
  t.is(index.trim(100_000, 0), 100);
  t.is(index.memoryBytes, 0);
  t.is(index.firstCursor, null);
  index.append(200_000, 20_000, 0, 1);
  t.is(index.items, 1);
});

test('cursors and instances may lie further apart than 32 bits', (t) => {
  const index = new QueueIndex();
  index.append(1, 1, 0, 1);
  index.append(2 ** 40, 2 ** 35, 5, 6);
  index.append(2 ** 52, 2 ** 50, 7, 8);
  t.deepEqual(index.after(1, 9, bytes_max), [
    { cursor: 2 ** 40, instance: 2 ** 35, offset: 5, item_bytes: 6 },
    { cursor: 2 ** 52, instance: 2 ** 50, offset: 7, item_bytes: 8 },
  ]);
});

test('a cursor that does not increase is a defect', (t) => {
  const index = filled(2);
  t.throws(() => index.append(20, 3, 0, 1), { message: /increase strictly/ });
});

test('behaves as a sorted array', (t) => {
  const step = fc.oneof(
    fc.record({ add: fc.integer({ min: 1, max: 300 }) }),
    fc.record({ trim: fc.nat(2000), kept: fc.nat(50) }),
    fc.record({ after: fc.nat(2000) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const index = new QueueIndex();
      let model: number[] = [];
      let cursor = 0;
      for (const action of steps) {
        if ('add' in action) {
          for (let i = 0; i < action.add; i++) {
            cursor += 1 + (i % 3);
            index.append(cursor, cursor, 0, 1);
            model.push(cursor);
          }
        } else if ('trim' in action) {
          const kept = model.slice(Math.max(0, model.length - action.kept));
          index.trim(action.trim, action.kept);
          model = model.filter((one) => one > action.trim || kept.includes(one));
        } else {
          const expected = model.filter((one) => one > action.after);
          t.deepEqual(
            index.after(action.after, 7, bytes_max).map((entry) => entry.cursor),
            expected.slice(0, 7),
          );
          t.is(index.countAfter(action.after), expected.length);
        }
        t.is(index.items, model.length);
      }
    }),
    { numRuns: 50 },
  );
});
