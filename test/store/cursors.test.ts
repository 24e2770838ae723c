import test from 'ava';
import { cursorFromWire, cursorToWire, QueueCursors, wire_cursor_none } from '../../src/ts/store/cursors.js';

const none = { prev: 0, next: 0 };

test('none on the wire is all ones, both ways', (t) => {
  t.is(cursorFromWire(wire_cursor_none), 0);
  t.is(cursorToWire(0), wire_cursor_none);
  t.is(cursorFromWire(240n), 240);
  t.is(cursorFromWire(2n ** 60n), Number.POSITIVE_INFINITY);
});

test('a new group starts before the first item', (t) => {
  t.deepEqual(new QueueCursors().reconcile(1, none), none);
  t.deepEqual(new QueueCursors().reconcile(1, { prev: 5, next: 9 }), none);
});

test('a client that comes with the stored next goes on and acknowledges', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 0, next: 10 });
  t.deepEqual(cursors.reconcile(1, { prev: 10, next: 10 }), { prev: 10, next: 10 });
  t.deepEqual(cursors.reconcile(1, { prev: 0, next: 10 }), { prev: 0, next: 10 });
});

test('a stale next is rewound to the last acknowledgement', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 10, next: 20 });
  t.deepEqual(cursors.reconcile(1, none), { prev: 10, next: 10 });
  t.deepEqual(cursors.reconcile(1, { prev: 15, next: 15 }), { prev: 10, next: 10 });
  cursors.commit(1, { prev: 10, next: 12 });
  t.deepEqual(cursors.reconcile(1, { prev: 12, next: 12 }), { prev: 12, next: 12 });
});

test('to acknowledge more than was fetched is a rewind', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 10, next: 20 });
  t.deepEqual(cursors.reconcile(1, { prev: 21, next: 20 }), { prev: 10, next: 10 });
});

test('acknowledgements never go backwards', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 10, next: 20 });
  t.deepEqual(cursors.reconcile(1, { prev: 5, next: 20 }), { prev: 10, next: 20 });
  cursors.commit(1, { prev: 5, next: 20 });
  t.is(cursors.of(1).prev, 10);
});

test('random starts at the acknowledgement or the given next', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 10, next: 20 });
  t.deepEqual(cursors.reconcileRandom(1, none), { prev: 10, next: 10 });
  t.deepEqual(cursors.reconcileRandom(1, { prev: 0, next: 15 }), { prev: 10, next: 15 });
  t.deepEqual(cursors.reconcileRandom(1, { prev: 0, next: Number.POSITIVE_INFINITY }), { prev: 10, next: 10 });
});

test('a replicated acknowledgement raises prev and resets next only when it is ahead', (t) => {
  const cursors = new QueueCursors();
  cursors.commit(1, { prev: 10, next: 20 });
  cursors.applyPrev(1, 10);
  t.deepEqual(cursors.of(1), { prev: 10, next: 20, replicated_prev: 10 });
  cursors.applyPrev(1, 30);
  t.deepEqual(cursors.of(1), { prev: 30, next: 30, replicated_prev: 30 });
  cursors.applyPrev(1, 5);
  t.deepEqual(cursors.of(1), { prev: 30, next: 30, replicated_prev: 30 });
});

test('commit tells whether prev is ahead of what is replicated', (t) => {
  const cursors = new QueueCursors();
  t.false(cursors.commit(1, { prev: 0, next: 10 }));
  t.true(cursors.commit(1, { prev: 10, next: 10 }));
  cursors.applyPrev(1, 10);
  t.false(cursors.commit(1, { prev: 10, next: 12 }));
});
