import test from 'ava';
import fc from 'fast-check';
import { editDistance, nearestName } from '../../src/ts/config/nearest.js';

test('the distance counts characters inserted, removed and replaced', (t) => {
  t.is(editDistance('kitten', 'sitting'), 3);
  t.is(editDistance('', 'abc'), 3);
  t.is(editDistance('abc', 'abc'), 0);
});

test('the distance is symmetric and no longer than the longer text', (t) => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      t.is(editDistance(a, b), editDistance(b, a));
      t.true(editDistance(a, b) <= Math.max(a.length, b.length));
    }),
  );
});

test('the nearest name is found, upper case or not, and nothing far away', (t) => {
  const names = ['batch_limit', 'handle_ids', 'topic_id'];
  t.is(nearestName('batch_limits', names), 'batch_limit');
  t.is(nearestName('Topic_ID', names), 'topic_id');
  t.is(nearestName('something_else', names), undefined);
});
