import test from 'ava';
import fc from 'fast-check';
import { acknowledgeableCursor } from '../../src/ts/consumer/acknowledgement.js';

test('everything finished: up to the last; nothing fetched or finished: nothing', (t) => {
  t.is(
    acknowledgeableCursor([3n, 4n, 9n], () => true),
    9n,
  );
  t.is(
    acknowledgeableCursor([], () => true),
    null,
  );
  t.is(
    acknowledgeableCursor([3n, 4n], () => false),
    null,
  );
});

test('items that share a cursor are acknowledged together', (t) => {
  t.is(
    acknowledgeableCursor([3n, 4n, 4n, 5n], (position) => position !== 2),
    3n,
  );
});

test('never beyond an unfinished item, never short of what could be', (t) => {
  const fetched = fc.array(fc.record({ step: fc.integer({ min: 0, max: 2 }), finished: fc.boolean() }));
  fc.assert(
    fc.property(fetched, (items) => {
      let at = 1n;
      const cursors = items.map(({ step }) => {
        at += BigInt(step);
        return at;
      });
      const open = cursors.filter((_, position) => items[position]?.finished === false);
      const found = acknowledgeableCursor(cursors, (position) => items[position]?.finished === true);
      const best = cursors.filter((cursor) => open.every((other) => cursor < other)).at(-1) ?? null;
      return found === best;
    }),
  );
  t.pass();
});
