import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Caller, consumed, firstRetained } from './caller.js';
import { NO_CURSOR } from './requests.js';
import { StoreCluster } from './store_fixture.js';

test('after all replicas stopped abruptly every acknowledged item is back under its cursor', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3, groups: 3 });
  const before = new Caller(t, cluster);
  const queues = [0, 1, 2, 3];
  const expected = new Map<number, [bigint, string][]>(queues.map((queue_id) => [queue_id, []]));
  await Promise.all(
    queues.map(async (queue_id) => {
      for (let round = 0; round < 20; round += 1) {
        const texts = Array.from({ length: 1 + (round % 4) }, (_, i) => `queue ${queue_id} round ${round} item ${i}`);
        const first = await before.add(queue_id, texts);
        for (const [i, text] of texts.entries()) expected.get(queue_id)?.push([first + BigInt(i), text]);
      }
    }),
  );
  await cluster.haltAll();
  await cluster.startAll();
  const after = new Caller(t, cluster);
  for (const queue_id of queues) {
    t.deepEqual((await after.getAll(queue_id)).items, expected.get(queue_id));
  }
  // The counter goes on where it was.
  const [last] = (expected.get(0) ?? []).slice(-1);
  t.true((await after.add(0, ['one more'])) > (last?.[0] ?? 0n));
  t.deepEqual(cluster.fatal, []);
});

test('replicated acknowledgements survive an abrupt stop', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  const before = new Caller(t, cluster);
  await before.add(0, ['a', 'b', 'c', 'd']);
  const first = await before.get(0, NO_CURSOR, NO_CURSOR);
  t.is(first.next_cursor_id, 4n);
  // Two of the four are acknowledged: the client comes back for the rest.
  await before.get(0, 2n, 4n);
  await cluster.until('acknowledgements are replicated', () =>
    [0, 1, 2].every((i) => cluster.store(i).cursors_waiting === 0),
  );
  await cluster.haltAll();
  await cluster.startAll();
  const after = new Caller(t, cluster);
  t.deepEqual(await after.getAll(0), {
    prev: 2n,
    items: [
      [3n, 'c'],
      [4n, 'd'],
    ],
  });
});

test('a graceful stop keeps the acknowledgements of the last moment', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  const before = new Caller(t, cluster);
  await before.add(0, ['a', 'b']);
  await before.get(0, NO_CURSOR, NO_CURSOR);
  await before.get(0, 2n, 2n);
  t.is(cluster.store(0).cursors_waiting, 1);
  await cluster.close();
  await cluster.startAll();
  t.deepEqual(await new Caller(t, cluster).getAll(0), { prev: 2n, items: [] });
});

test('with one replica stopped the others go on, and it catches up when it returns', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  const caller = new Caller(t, cluster);
  await caller.add(0, ['first']);
  await cluster.store(2).close();
  for (let i = 0; i < 20; i += 1) await caller.add(0, [`while it is away ${i}`]);
  const back = await cluster.startOne(2);
  await cluster.until('the third replica is ready', () => back.ready().ok);
  await cluster.store(0).close();
  // Whichever of the two leads now has everything.
  t.is((await caller.getAll(0)).items.length, 21);
});

test('a replica that was away while the log was truncated is brought a checkpoint, and can serve', async (t) => {
  const topic = { store_make_cp_interval_s: 1, store_paxos_hold_log_count: 0 };
  const cluster = await StoreCluster.start(t, { replicas: 3, topic });
  const caller = new Caller(t, cluster);
  await caller.add(0, ['first']);
  await cluster.store(2).close();
  const last = await consumed(caller);
  for (const replica of [0, 1]) {
    await cluster.until('the log is truncated', async () => (await firstRetained(cluster, replica)) > 10);
  }
  const back = await cluster.startOne(2);
  await cluster.until('it has a state', () => cluster.lines.some((line) => /goes on behind the checkpoint/.test(line)));
  await cluster.until('it is ready', () => back.ready().ok);
  await cluster.store(0).close();
  t.deepEqual(await caller.getAll(0), { prev: last - 1n, items: [[last, 'kept']] });
});

test('items that all acknowledged before the checkpoint are not read again, the others are', async (t) => {
  const topic = { store_make_cp_interval_s: 1, store_paxos_hold_log_count: 0 };
  const cluster = await StoreCluster.start(t, { replicas: 1, topic });
  const last = await consumed(new Caller(t, cluster));
  await cluster.until('the log is truncated', async () => (await firstRetained(cluster, 0)) > 10);
  await cluster.haltAll();
  await cluster.startAll();
  t.regex(cluster.lines.join('\n'), /read 1 items of 1 Paxos groups/);
  const after = await new Caller(t, cluster).getAll(0);
  t.deepEqual(after, { prev: last - 1n, items: [[last, 'kept']] });
});

test('a copy of the high-water marks that was lost while the store was down is told', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  await cluster.close();
  const path = join(cluster.dataFolder(0), 'log', 'marks');
  const marks = await readFile(path);
  marks[42] = (marks[42] ?? 0) ^ 1;
  await writeFile(path, marks);
  await cluster.startAll();
  t.is(cluster.lines.filter((line) => /WARN 1 of the two copies of the log's high-water marks/.test(line)).length, 1);
});
