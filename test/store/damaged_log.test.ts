/** Stores whose logs are damaged while they do not run, with real files. One test at a time: they wait for many syncs. */
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Identity } from '../../src/ts/paxos/identity.js';
import { logIdentity } from '../../src/ts/paxos/identity.js';
import { NODE_GROUP } from '../../src/ts/paxos/node_records.js';
import { RecordKind } from '../../src/ts/wal/engine.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { append } from '../wal/fixture.js';
import { flip, placeOf, ROTS, type Rot, rot } from './bit_rot.js';
import { Caller, consumed, firstRetained } from './caller.js';
import { StoreCluster } from './store_fixture.js';

function identityOf(replica: number): Identity {
  return { cluster: 'test/store/1', replica: replica + 1, groups: 1 };
}

function logOf(cluster: StoreCluster, replica: number): string {
  return join(cluster.dataFolder(replica), 'log');
}

async function setAside(cluster: StoreCluster, replica: number): Promise<string[]> {
  const names = await readdir(cluster.dataFolder(replica));
  return names.filter((name) => name.startsWith('log.damaged-')).map((name) => join(cluster.dataFolder(replica), name));
}

async function page(cluster: StoreCluster, replica: number, path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${cluster.store(replica).admin_port}${path}`)).text();
}

async function damage(cluster: StoreCluster, replica: number, what: Rot): Promise<void> {
  await cluster.store(replica).close();
  await rot(logOf(cluster, replica), identityOf(replica), what);
}

/** It comes back with another log, votes, and the damaged one is there still. */
async function comesBack(t: ExecutionContext, cluster: StoreCluster, replica: number, what: string): Promise<void> {
  const store = await cluster.startOne(replica);
  const [folder] = await setAside(cluster, replica);
  t.truthy(folder, what);
  await cluster.until(`replica ${replica} is ready after damage of ${what}`, () => store.ready().ok);
  t.regex(cluster.lines.join('\n'), new RegExp(`${replica} ERROR THE LOG WAS DAMAGED .* set aside as ${folder}`));
  t.regex(await page(cluster, replica, '/metrics'), /^phxqueue_log_set_aside 1$/m);
  await rm(folder ?? '', { recursive: true });
  t.regex(await page(cluster, replica, '/metrics'), /^phxqueue_log_set_aside 0$/m);
}

test.serial('a store comes back as a voter after any damage of its log, and nothing is lost', async (t) => {
  const topic = { store_make_cp_interval_s: 1, store_paxos_hold_log_count: 0 };
  const cluster = await StoreCluster.start(t, { replicas: 3, topic });
  const caller = new Caller(t, cluster);
  await consumed(caller);
  const texts = ['kept'];
  for (const [index, what] of ROTS.entries()) {
    const replica = index % 3;
    if (what === 'a checkpoint') {
      await cluster.until('it has one', async () => (await firstRetained(cluster, replica)) > 1);
    }
    await damage(cluster, replica, what);
    texts.push(what);
    await caller.add(0, [what]);
    await comesBack(t, cluster, replica, what);
  }
  await cluster.store(0).close();
  t.deepEqual(
    (await caller.getAll(0)).items.map(([, text]) => text),
    texts,
  );
  t.deepEqual(cluster.fatal, []);
});

test.serial('entries that are known to be chosen are fetched again, on two of three stores at once', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  const caller = new Caller(t, cluster);
  const texts = Array.from({ length: 40 }, (_, i) => `item ${i}`);
  for (const text of texts) await caller.add(0, [text]);
  await cluster.close();
  for (const [replica, instances] of [
    [0, [20, 21, 25]],
    [1, [18, 20]],
  ] as const) {
    for (const instance of instances) {
      const { path, at } = await placeOf(logOf(cluster, replica), identityOf(replica), (record) => {
        return record.kind === RecordKind.entry && record.group === 0 && record.instance === instance;
      });
      await flip(path, at);
    }
  }
  await cluster.startAll();
  const lines = cluster.lines.join('\n');
  for (const line of [/0 INFO group 0: instances 20 to 21,/, /0 INFO .* 25 to 25,/, /1 INFO .* 18 to 18,/]) {
    t.regex(lines, line);
  }
  for (const replica of [0, 1]) t.deepEqual(await setAside(cluster, replica), []);
  // The third one goes: what was fetched is as good as any, also after another start.
  await cluster.store(2).close();
  const held = async (): Promise<string[]> => (await caller.getAll(0)).items.map(([, text]) => text);
  t.deepEqual(await held(), texts);
  await cluster.close();
  cluster.lines.length = 0;
  await cluster.startAll();
  t.false(cluster.lines.some((line) => /damaged/.test(line)));
  t.deepEqual(await held(), texts);
});

test.serial(
  'stores whose logs were all damaged wait, and form nothing; with their logs back all is there',
  async (t) => {
    const cluster = await StoreCluster.start(t, { replicas: 3 });
    await new Caller(t, cluster).add(0, ['one', 'two']);
    await cluster.close();
    const isEntry = ({ kind, group }: { kind: number; group: number }): boolean => {
      return kind === RecordKind.entry && group === 0;
    };
    const places = await Promise.all([0, 1, 2].map((i) => placeOf(logOf(cluster, i), identityOf(i), isEntry)));
    for (const { path, at } of places) await flip(path, at);
    for (const replica of [0, 1, 2]) await cluster.startOne(replica);
    for (const replica of [0, 1, 2]) {
      await cluster.until('all have met', () =>
        /in: it joins that one, and never/.test(cluster.store(replica).ready().reason),
      );
      const [folder] = await setAside(cluster, replica);
      t.regex(await page(cluster, replica, '/readyz'), new RegExp(`a damaged log was set aside as ${folder}`));
    }
    await cluster.haltAll();
    // Started again they go on waiting.
    for (const replica of [0, 1, 2]) await cluster.startOne(replica);
    for (const replica of [0, 1, 2]) {
      await cluster.until('all have met', () =>
        /in: it joins that one, and never/.test(cluster.store(replica).ready().reason),
      );
    }
    await cluster.close();
    for (const [replica, { path, at }] of places.entries()) {
      const [folder = ''] = await setAside(cluster, replica);
      await rm(logOf(cluster, replica), { recursive: true });
      await rename(folder, logOf(cluster, replica));
      await flip(path, at);
    }
    await cluster.startAll();
    const { items } = await new Caller(t, cluster).getAll(0);
    t.deepEqual(
      items.map(([, text]) => text),
      ['one', 'two'],
    );
  },
);

test.serial('a second damaged log is not set aside while the first one is there', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  await new Caller(t, cluster).add(0, ['one']);
  await damage(cluster, 2, 'an entry');
  const joined = await cluster.startOne(2);
  await cluster.until('it is ready', () => joined.ready().ok);
  await damage(cluster, 2, 'an entry');
  const before = await setAside(cluster, 2);
  await t.throwsAsync(cluster.startOne(2), {
    code: 'LOG_CORRUPT',
    message: /may have held a vote; it is not set aside, because .*log\.damaged-.* is still there.* delete that folder/,
  });
  t.deepEqual(await setAside(cluster, 2), before);
  await rm(before[0] ?? '', { recursive: true });
  await comesBack(t, cluster, 2, 'an entry');
});

test.serial('where it is switched off, or the store is alone, a damaged log is refused as it is', async (t) => {
  for (const [replicas, store_keys] of [
    [1, ''],
    [3, 'SetAsideDamage = 0'],
  ] as const) {
    const cluster = await StoreCluster.start(t, { replicas, store_keys });
    await new Caller(t, cluster).add(0, ['one']);
    await damage(cluster, 0, 'an entry');
    await t.throwsAsync(cluster.startOne(0), { code: 'LOG_CORRUPT', message: /may have held a vote$/ });
    t.deepEqual((await readdir(cluster.dataFolder(0))).sort(), ['identity.json', 'log']);
  }
});

test.serial('a log of newer software is not damaged', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3 });
  await cluster.close();
  const log = await openPortable({ folder: logOf(cluster, 0), identity: logIdentity(identityOf(0)) });
  const body = [Buffer.from('{"version":99}')];
  await append(log, { kind: RecordKind.state, group: NODE_GROUP, instance: 0, body });
  await log.close();
  await t.throwsAsync(cluster.startOne(0), { code: 'LOG_FORMAT' });
  t.deepEqual((await readdir(cluster.dataFolder(0))).sort(), ['identity.json', 'log']);
});
