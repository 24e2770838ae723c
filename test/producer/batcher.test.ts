import test from 'ava';
import { Batcher, type BatchLimits } from '../../src/ts/producer/batcher.js';
import { EnqueueError } from '../../src/ts/producer/enqueue_error.js';

const limits: BatchLimits = { items_max: 10, bytes_max: 1_000, delay_ms: 60_000 };

interface Sent {
  readonly items: readonly string[];
  readonly answer: (cursor: bigint) => void;
  readonly refuse: (cause: Error) => void;
}

function makeBatcher(): { batcher: Batcher<string, string>; sent: Sent[] } {
  const sent: Sent[] = [];
  const batcher = new Batcher<string, string>(
    (_route, items) => new Promise((answer, refuse) => sent.push({ items, answer, refuse })),
  );
  return { batcher, sent };
}

function add(
  batcher: Batcher<string, string>,
  items: readonly string[],
  more: { key?: string; signal?: AbortSignal } = {},
) {
  return batcher.add(more.key ?? 'a', 'route', items, items.length, limits, more.signal);
}

test('half a request full goes out in the order of the callers, each of whom gets his cursor', async (t) => {
  const { batcher, sent } = makeBatcher();
  const cursors = [add(batcher, ['1', '2']), add(batcher, ['3']), add(batcher, ['4', '5'])];
  t.deepEqual(
    sent.map(({ items }) => items),
    [['1', '2', '3', '4', '5']],
  );
  sent[0]?.answer(40n);
  t.deepEqual(await Promise.all(cursors), [40n, 42n, 43n]);
  t.is(batcher.pending_items, 0);
});

test('half of the bytes is enough, too', (t) => {
  const { batcher, sent } = makeBatcher();
  void batcher.add('a', 'route', ['1'], 500, limits);
  t.is(sent.length, 1);
});

test('keys do not mix, and flush sends what waits', async (t) => {
  const { batcher, sent } = makeBatcher();
  const cursors = [add(batcher, ['1']), add(batcher, ['2'], { key: 'b' })];
  t.is(sent.length, 0);
  const flushed = batcher.flush();
  t.deepEqual(
    sent.map(({ items }) => items),
    [['1'], ['2']],
  );
  for (const { answer } of sent) answer(7n);
  await flushed;
  t.deepEqual(await Promise.all(cursors), [7n, 7n]);
});

test('the delay sends a batch that does not fill', async (t) => {
  const { batcher, sent } = makeBatcher();
  const cursor = batcher.add('a', 'route', ['1'], 1, { ...limits, delay_ms: 1 });
  while (sent.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  sent[0]?.answer(1n);
  t.is(await cursor, 1n);
});

test('items that do not fit send the batch before them', (t) => {
  const { batcher, sent } = makeBatcher();
  void add(batcher, ['1', '2', '3', '4']);
  void add(batcher, ['5', '6', '7', '8', '9', '10', '11']);
  t.deepEqual(
    sent.map(({ items }) => items.length),
    [4, 7],
  );
});

test('a failed request fails all of its callers', async (t) => {
  const { batcher, sent } = makeBatcher();
  const cursors = [add(batcher, ['1']), add(batcher, ['2'])];
  void batcher.flush();
  sent[0]?.refuse(new Error('refused'));
  for (const cursor of cursors) await t.throwsAsync(cursor, { message: 'refused' });
});

test('an abort before sending takes the items out, one after it cannot', async (t) => {
  const { batcher, sent } = makeBatcher();
  const [early, late] = [new AbortController(), new AbortController()];
  const first = add(batcher, ['1'], { signal: early.signal });
  const second = add(batcher, ['2'], { signal: late.signal });
  early.abort();
  const taken_out = await t.throwsAsync(first, { instanceOf: EnqueueError });
  t.is(taken_out?.code, 'ABORTED');
  t.false(taken_out?.outcome_unknown);
  const flushed = batcher.flush();
  t.deepEqual(
    sent.map(({ items }) => items),
    [['2']],
  );
  late.abort();
  const gone = await t.throwsAsync(second, { instanceOf: EnqueueError });
  t.true(gone?.outcome_unknown);
  sent[0]?.answer(1n);
  await flushed;
  t.is(batcher.pending_items, 0);
});
