import test from 'ava';
import { ValueCache } from '../../src/ts/paxos/value_cache.js';

test('the oldest values leave when the bytes are used up', (t) => {
  const cache = new ValueCache(100);
  for (let instance = 1; instance <= 5; instance += 1) cache.put(instance % 2, instance, new Uint8Array(30));
  t.is(cache.bytes, 90);
  t.is(cache.get(1, 1), undefined);
  t.is(cache.get(0, 2), undefined);
  t.is(cache.get(1, 3)?.length, 30);
  t.is(cache.get(1, 5)?.length, 30);
  t.is(cache.get(0, 5), undefined, 'groups do not mix');
});

test('a value larger than the whole cache is not kept', (t) => {
  const cache = new ValueCache(10);
  cache.put(0, 1, new Uint8Array(11));
  t.is(cache.bytes, 0);
  t.is(cache.get(0, 1), undefined);
});

test('many values pass through without leaving anything behind', (t) => {
  const cache = new ValueCache(1_000);
  for (let instance = 1; instance <= 10_000; instance += 1) cache.put(0, instance, new Uint8Array(100));
  t.is(cache.bytes, 1_000);
  t.is(cache.get(0, 9_991)?.length, 100);
  t.is(cache.get(0, 9_990), undefined);
});
