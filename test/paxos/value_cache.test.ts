import test from 'ava';
import { VALUE_OVERHEAD_BYTES, ValueCache } from '../../src/ts/paxos/value_cache.js';

const VALUE_BYTES = 100;
/** What one value of the tests takes. */
const TAKEN_BYTES = VALUE_BYTES + VALUE_OVERHEAD_BYTES;

function value(): Uint8Array {
  return new Uint8Array(VALUE_BYTES);
}

test('the oldest values leave when the bytes are used up', (t) => {
  const cache = new ValueCache(3.5 * TAKEN_BYTES);
  for (let instance = 1; instance <= 5; instance += 1) cache.put(instance % 2, instance, value());
  t.is(cache.bytes, 3 * TAKEN_BYTES);
  t.is(cache.get(1, 1), undefined);
  t.is(cache.get(0, 2), undefined);
  t.is(cache.get(1, 3)?.length, VALUE_BYTES);
  t.is(cache.get(1, 5)?.length, VALUE_BYTES);
  t.is(cache.get(0, 5), undefined, 'groups do not mix');
});

test('a value larger than the whole cache is not kept', (t) => {
  const cache = new ValueCache(VALUE_BYTES);
  cache.put(0, 1, value());
  t.is(cache.bytes, 0);
  t.is(cache.get(0, 1), undefined);
});

test('tiny values count for what they really take', (t) => {
  const cache = new ValueCache(10 * VALUE_OVERHEAD_BYTES);
  for (let instance = 1; instance <= 100; instance += 1) cache.put(0, instance, new Uint8Array(1));
  t.is(cache.get(0, 91), undefined);
  t.is(cache.get(0, 100)?.length, 1);
});

test('many values pass through without leaving anything behind', (t) => {
  const cache = new ValueCache(10 * TAKEN_BYTES);
  for (let instance = 1; instance <= 10_000; instance += 1) cache.put(0, instance, value());
  t.is(cache.bytes, 10 * TAKEN_BYTES);
  t.is(cache.get(0, 9_991)?.length, VALUE_BYTES);
  t.is(cache.get(0, 9_990), undefined);
});
