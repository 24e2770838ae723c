import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Consumer, type ConsumerOptions } from '../../src/ts/consumer/consumer.js';
import type { ConsumedItem, Handler } from '../../src/ts/consumer/handler.js';
import { PhxError } from '../../src/ts/errors.js';
import { CONSUMER_PORT, type Deployment, type DeploymentOptions, deploy, quickQueue } from '../support/deployment.js';
import { CURSOR_NONE } from '../support/fake_store.js';
import { queueItem } from '../support/items.js';

interface Fixture extends Deployment {
  readonly consumer: Consumer;
  readonly lines: string[];
  readonly dead_letter_path: string;
}

function textOf({ buffer }: Pick<ConsumedItem, 'buffer'>): string {
  return Buffer.from(buffer).toString();
}

async function prepare(
  t: ExecutionContext,
  handler: Handler,
  deployment: DeploymentOptions = {},
  options: Partial<ConsumerOptions> = {},
): Promise<Fixture> {
  const deployed = await deploy(t, deployment);
  const lines: string[] = [];
  const dead_letter_path = join(deployed.folder, 'data', 'dead_letters.jsonl');
  const consumer = new Consumer({
    global_config_path: deployed.global_config_path,
    ip: '127.0.0.1',
    port: CONSUMER_PORT,
    handlers: { 1: handler },
    dead_letter_path,
    grace_ms: 500,
    log: (level, line) => lines.push(`${level}: ${line}`),
    ...options,
  });
  t.teardown(() => consumer.stop());
  return { ...deployed, consumer, lines, dead_letter_path };
}

/** Two queues: the pub's own, and one for its retries. */
const WITH_RETRIES: DeploymentOptions = {
  queue_infos: [quickQueue(1, '0'), quickQueue(2, '1', { count: 2 })],
  pubs: [{ pub_id: 1, queue_info_ids: [1, 2], consumer_group_ids: [1] }],
};

test('items come with their fields, in order, and are acknowledged afterwards', async (t) => {
  const seen: ConsumedItem[] = [];
  const { consumer, store, lines } = await prepare(t, async (item) => {
    seen.push(item);
    return 'OK';
  });
  store.put(0, [queueItem('a', 7n), queueItem('b', 7n)]);
  t.is(consumer.obstacle, 'the consumer does not run');
  consumer.start();
  t.is(consumer.obstacle, null);
  await store.until(() => store.acknowledged(0) === 2, 'both are acknowledged');
  t.deepEqual(seen.map(textOf), ['a', 'b']);
  t.like(seen[0], { topic_id: 1000, handle_id: 1, pub_id: 1, uin: 7n, count: 0, cursor_id: 1n, buffer_type: 0 });
  t.like(consumer.figures.counts, { handled: 2, errors: 0, retries: 0, dead_letters: 0 });
  const dequeues = lines.filter((line) => line.startsWith('info: Dequeue'));
  t.is(
    dequeues[0],
    'info: Dequeue ret 0 topic 1000 consumer_group_id 1 store_id 1 queue_id 0 size 2 prev_cursor_id 0 next_cursor_id 2',
  );
  t.like(store.gets[0], { limit: 100, prev_cursor_id: CURSOR_NONE, next_cursor_id: CURSOR_NONE, consumer_group_id: 1 });
  t.like(store.gets[1], { prev_cursor_id: 2n, next_cursor_id: 2n });
});

test('nothing is acknowledged while a handler runs, and a stop waits for it', async (t) => {
  let start: () => void = () => undefined;
  const started = new Promise<void>((resolve) => {
    start = resolve;
  });
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const handler: Handler = async () => {
    start();
    await finished;
    return 'OK';
  };
  const { consumer, store } = await prepare(t, handler, {}, { grace_ms: 10_000 });
  store.put(0, [queueItem('a')]);
  consumer.start();
  await started;
  const stopped = consumer.stop();
  t.is(store.acknowledged(0), 0);
  finish();
  await stopped;
  t.is(store.acknowledged(0), 1);
});

test('a handler that does not end within the grace is left behind, its item unacknowledged', async (t) => {
  const signals: AbortSignal[] = [];
  const { consumer, store } = await prepare(
    t,
    async (item, { signal }) => {
      if (textOf(item) !== 'b') return 'OK';
      signals.push(signal);
      return await new Promise<never>(() => undefined);
    },
    {},
    { grace_ms: 20 },
  );
  store.put(0, [queueItem('a'), queueItem('b'), queueItem('c')]);
  consumer.start();
  await store.until(() => store.gets.length === 1, 'they are fetched');
  while (consumer.figures.counts.handled < 2) await new Promise((resolve) => setImmediate(resolve));
  await consumer.stop();
  t.is(store.acknowledged(0), 1);
  t.true(signals[0]?.aborted);
});

test('a consumer that comes after one that acknowledged nothing gets the items again', async (t) => {
  const handled: string[] = [];
  const { store, global_config_path } = await prepare(t, async () => 'OK');
  const run = async (handler: Handler, until: () => boolean): Promise<void> => {
    const options = { global_config_path, ip: '127.0.0.1', port: CONSUMER_PORT, grace_ms: 10, log: () => undefined };
    const consumer = new Consumer({ ...options, handlers: { 1: handler } });
    consumer.start();
    await store.until(until, 'its work is done');
    await consumer.stop();
  };
  store.put(0, [queueItem('a'), queueItem('b')]);
  await run(
    () => new Promise(() => undefined),
    () => store.gets.length === 1,
  );
  await run(
    async (item) => {
      handled.push(textOf(item));
      return 'OK';
    },
    () => store.acknowledged(0) === 2,
  );
  t.deepEqual(handled, ['a', 'b']);
});

test('a failed item goes down its chain, for its group alone, before it is acknowledged', async (t) => {
  const attempts: number[] = [];
  const { consumer, store } = await prepare(
    t,
    async (item, context) => {
      attempts.push(context.attempt);
      if (context.attempt === 1) throw new Error('not yet');
      context.updateBuffer(Buffer.from(`${textOf(item)}!`));
      return context.attempt < 3 ? 'ERROR' : 'IGNORE';
    },
    WITH_RETRIES,
  );
  store.put(0, [queueItem('a', 7n)]);
  const acknowledged_then: number[] = [];
  store.addFate = () => {
    acknowledged_then.push(store.acknowledged(0));
    return null;
  };
  consumer.start();
  await store.until(() => store.acknowledged(0) === 1 && store.acknowledged(1) === 2, 'the second retry is done');
  t.deepEqual(attempts, [1, 2, 3]);
  t.is(acknowledged_then[0], 0);
  t.deepEqual(store.texts(1), ['a', 'a!']);
  const [first] = store.items(1);
  t.like(first, { count: 1, consumer_group_ids: 1n, pub_id: 1 });
  t.like(first?.meta, { uin: 7n, consumer_group_ids: CURSOR_NONE, handle_id: 1 });
  t.like(consumer.figures.counts, { handled: 3, errors: 2, retries: 2, dead_letters: 0 });
});

test('an item whose chain is at its end, or that nobody handles, is kept in the dead letters', async (t) => {
  const { consumer, store, dead_letter_path, lines } = await prepare(t, async () => 'ERROR');
  const strange = queueItem('b', 9n);
  if (strange.meta !== undefined) strange.meta.handle_id = 77;
  store.put(0, [queueItem('a', 8n), strange, queueItem('c', 1n, { pub_id: 99 })]);
  consumer.start();
  await store.until(() => store.acknowledged(0) === 3, 'all are acknowledged');
  const letters: unknown[] = readFileSync(dead_letter_path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.is(letters.length, 3);
  const where = { topic_id: 1000, consumer_group_id: 1, store_id: 1, queue_id: 0, count: 0, buffer_type: 0 };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  t.like(letters[0], { ...where, ret: -10109, uin: '8', cursor_id: '1', buffer_base64: base64('a'), handle_id: 1 });
  t.like(letters[1], { ret: -10109, uin: '9', handle_id: 77 });
  t.like(letters[2], { ret: -10110, pub_id: 99 });
  t.is(consumer.figures.counts.dead_letters, 3);
  t.true(lines.some((line) => line.includes('no handler for handle_id 77')));
  t.is(store.adds.length, 0);
});

test('an item too large for its retry queue goes to the dead letters, the others are retried', async (t) => {
  const deployment = { ...WITH_RETRIES, topic: { items_byte_size_limit: 500 } };
  const { consumer, store } = await prepare(
    t,
    async (item, { attempt, updateBuffer }) => {
      if (textOf(item) === 'a') updateBuffer(Buffer.alloc(600));
      return attempt === 1 ? 'ERROR' : 'OK';
    },
    deployment,
  );
  store.put(0, [queueItem('a'), queueItem('b')]);
  consumer.start();
  await store.until(() => store.acknowledged(0) === 2 && store.acknowledged(1) === 1, 'the retry is done');
  t.deepEqual(store.texts(1), ['b']);
  t.is(consumer.figures.counts.dead_letters, 1);
});

test('a retry queue that takes nothing holds the acknowledgement up, without losing the item', async (t) => {
  const { consumer, store } = await prepare(
    t,
    async (_item, { attempt }) => (attempt === 1 ? 'ERROR' : 'OK'),
    WITH_RETRIES,
  );
  let tries = 0;
  store.addFate = () => {
    tries += 1;
    return tries <= 2 ? { result: -10319 } : null;
  };
  store.put(0, [queueItem('a')]);
  consumer.start();
  await store.until(() => tries === 2, 'two tries were refused');
  t.is(store.acknowledged(0), 0);
  await store.until(() => store.acknowledged(0) === 1, 'the third one was taken');
  t.deepEqual(store.texts(1), ['a']);
});

test('one key is handled in order and alone, other keys go on beside it, failures or not', async (t) => {
  const order = new Map<bigint, string[]>();
  const busy = new Set<bigint>();
  let overlapped = false;
  let together = 0;
  const { consumer, store } = await prepare(
    t,
    async (item, { attempt }) => {
      // A retry is another delivery, from another queue: it may run beside the items behind the one that failed.
      if (attempt > 1) return 'OK';
      overlapped ||= busy.has(item.uin);
      busy.add(item.uin);
      together = Math.max(together, busy.size);
      for (let turn = 0n; turn < 10n - item.uin; turn += 1n) await new Promise((resolve) => setImmediate(resolve));
      busy.delete(item.uin);
      order.set(item.uin, [...(order.get(item.uin) ?? []), textOf(item)]);
      return item.uin % 2n === 0n ? 'ERROR' : 'OK';
    },
    { ...WITH_RETRIES, topic: { batch_limit: 30 } },
  );
  const items = Array.from({ length: 200 }, (_, n) => queueItem(`${n}`, BigInt((n % 8) + 1)));
  store.put(0, items);
  consumer.start();
  await store.until(() => store.acknowledged(0) === 200 && store.acknowledged(1) === 100, 'all are done');
  t.false(overlapped);
  t.true(together > 1);
  for (let key = 1n; key <= 8n; key += 1n) {
    const expected = items.filter(({ meta }) => meta?.uin === key).map(textOf);
    t.deepEqual(order.get(key), expected);
  }
  for (const key of [2n, 4n, 6n, 8n]) {
    const retried = store.items(1).filter(({ meta }) => meta?.uin === key);
    t.deepEqual(retried.map(textOf), items.filter(({ meta }) => meta?.uin === key).map(textOf));
  }
});

test('a Get that fails halves the limit, successes raise it again', async (t) => {
  const { consumer, store } = await prepare(t, async () => 'OK');
  store.get_result = -10318;
  consumer.start();
  await store.until(() => store.gets.length >= 3, 'three have failed');
  store.get_result = 0;
  await store.until(() => store.gets.length >= 6, 'some have succeeded');
  const limits = store.gets.map(({ limit }) => limit);
  t.deepEqual(limits.slice(0, 3), [100, 50, 25]);
  const lowest = Math.min(...limits);
  const after = limits.slice(limits.lastIndexOf(lowest));
  t.is(after[1], lowest + 10);
});

test('a queue with a delay asks only for items that are old enough', async (t) => {
  const { consumer, store } = await prepare(t, async () => 'OK', {
    queue_infos: [quickQueue(1, '0', { delay: 3600 })],
  });
  const old = BigInt(Math.floor(Date.now() / 1000) - 7200);
  store.put(0, [queueItem('old', 0n, { atime: old }), queueItem('young')]);
  consumer.start();
  await store.until(() => store.acknowledged(0) === 1 && store.gets.length >= 4, 'the old one is done');
  t.is(consumer.figures.counts.handled, 1);
});

test('items of a queue that drops all count as done', async (t) => {
  const queue_infos = [quickQueue(1, '0'), quickQueue(2, '1', { drop_all: 1 })];
  const pubs = [{ pub_id: 1, queue_info_ids: [1, 2], consumer_group_ids: [1] }];
  const { consumer, store } = await prepare(t, async () => 'OK', { queue_infos, pubs });
  store.put(0, [queueItem('a')]);
  store.put(1, [queueItem('b')]);
  consumer.start();
  await store.until(() => store.acknowledged(0) === 1 && store.acknowledged(1) === 1, 'both are acknowledged');
  t.is(consumer.figures.counts.handled, 1);
});

test('what a later part brings is named once, at the start', async (t) => {
  const groups = [{ consumer_group_id: 1, use_dynamic_scale: 1, skip_lock: 0 }];
  const { lines } = await prepare(t, async () => 'OK', { consumer_groups: groups });
  t.is(lines.filter((line) => line.startsWith('warn:') && line.includes('skip_lock 0')).length, 1);
  t.is(lines.filter((line) => line.startsWith('info:') && line.includes('dynamic weights')).length, 1);
});

test('run serves until its signal fires', async (t) => {
  const { consumer, store } = await prepare(t, async () => 'OK');
  store.put(0, [queueItem('a')]);
  const end = new AbortController();
  const done = consumer.run(end.signal);
  await store.until(() => store.acknowledged(0) === 1, 'it is acknowledged');
  end.abort();
  await done;
  t.is(consumer.obstacle, 'the consumer does not run');
  t.throws(() => consumer.start(), { instanceOf: PhxError });
});

test('options that cannot work are refused', async (t) => {
  const { global_config_path } = await deploy(t);
  const good = { global_config_path, ip: '127.0.0.1', port: CONSUMER_PORT, handlers: { 1: async () => 'OK' as const } };
  for (const [bad, pattern] of [
    [{ ...good, port: 9999 }, /127\.0\.0\.1:9999/],
    [{ ...good, topic: 'other' }, /other/],
    [{ ...good, nproc: 0 }, /nproc/],
    [{ ...good, handler_modules: {} }, /either/],
  ] as const) {
    const error = t.throws(() => new Consumer({ ...bad, log: () => undefined }), { instanceOf: PhxError });
    t.is(error.code, 'CONFIG');
    t.regex(error.message, pattern);
  }
});
