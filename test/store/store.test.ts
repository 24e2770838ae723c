import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import test from 'ava';
import { loadStoreConf } from '../../src/ts/config/server_conf.js';
import { findPlace } from '../../src/ts/store/place.js';
import { openLog } from '../../src/ts/wal/open.js';
import { RawConnection } from '../support/raw_connection.js';
import { FailingLog } from './failing_log.js';
import { addBody, testItem } from './requests.js';
import { StoreCluster } from './store_fixture.js';

/** Changes a replica's file. */
async function edit(cluster: StoreCluster, replica: number, from: string | RegExp, to: string): Promise<void> {
  const path = cluster.confPath(replica);
  await writeFile(path, (await readFile(path, 'utf8')).replace(from, to));
}

async function page(port: number | null, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, text: await response.text() };
}

test('a data folder that is missing is made, with its parents, and the log says so', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 1 });
  await edit(cluster, 0, cluster.dataFolder(0), `${cluster.dataFolder(0)}/deeper/still`);
  await cluster.startAll();
  t.true(
    cluster.lines.some((line) => line.startsWith('0 INFO made the data folder ') && line.endsWith('/deeper/still')),
  );
  t.regex(cluster.store(0).description, /^serves store 1 of topic test on 127\.0\.0\.1:\d+ \(replica 1 of 1\)$/);
});

test('what keeps a store from starting is one CONFIG line, and nothing is left running', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 3 });
  const [first, second] = cluster.addresses;
  await edit(cluster, 0, `Port = ${first?.port}`, 'Port = 9');
  await t.throwsAsync(cluster.startOne(0), { code: 'CONFIG', message: /127\.0\.0\.1:9 is not in .*store\.conf/ });
  await edit(cluster, 0, 'Port = 9\n', `Port = ${first?.port}\n`);
  await edit(cluster, 0, 'Topic = test', 'Topic = tset');
  await t.throwsAsync(cluster.startOne(0), { code: 'CONFIG', message: /did you mean test\?/ });
  await edit(cluster, 0, 'Topic = tset', 'Topic = test');

  await mkdir(`${cluster.folder}/data`);
  await writeFile(cluster.dataFolder(0), 'a file');
  await t.throwsAsync(cluster.startOne(0), { code: 'CONFIG', message: /Store\.DataDirPath: .* cannot be made/ });
  await rm(cluster.dataFolder(0));

  const taken = createServer().listen(second?.port, '127.0.0.1');
  t.teardown(() => taken.close());
  await t.throwsAsync(cluster.startOne(1), {
    code: 'CONFIG',
    message: new RegExp(`127.0.0.1:${second?.port}.*EADDRINUSE`),
  });
  await cluster.startOne(0);
  t.deepEqual(cluster.fatal, []);
});

test('an embedded store that names no topic is found by its address', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 1 });
  const warn = (line: string): void => t.fail(line);
  const conf = { ...loadStoreConf(cluster.confPath(0)), topic: '' };
  t.is(findPlace(conf, warn).identity.cluster, 'test/store/1');
  const stray = { ...conf, server: { ...conf.server, port: 9 } };
  t.throws(() => findPlace(stray, warn), { code: 'CONFIG', message: /Store\.Topic: is empty, and no topic of/ });
});

test('a data folder of another cluster shape is refused', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, groups: 2 });
  await cluster.close();
  await edit(cluster, 0, 'NGroup = 2', 'NGroup = 3');
  await t.throwsAsync(cluster.startOne(0), {
    code: 'CONFIG',
    message: /belongs to groups 2, the configuration says 3/,
  });
});

test('two processes cannot share a data folder', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  await t.throwsAsync(cluster.startOne(0), { code: 'LOG_LOCKED' });
  t.true(cluster.store(0).ready().ok);
});

test('the admin pages tell health, readiness and figures', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1, groups: 2 });
  const { admin_port } = cluster.store(0);
  t.deepEqual(await page(admin_port, '/healthz'), { status: 200, text: 'ok\n' });
  t.deepEqual(await page(admin_port, '/readyz'), { status: 200, text: 'ok\n' });
  const { text } = await page(admin_port, '/metrics');
  for (const line of [
    'phxqueue_store_master{group="0"} 1',
    'phxqueue_store_master{group="1"} 1',
    'phxqueue_store_master_replica{group="1"} 1',
    'phxqueue_store_items_added_total 0',
    'phxqueue_paxos_connected_peers 0',
  ]) {
    t.true(text.includes(`${line}\n`), line);
  }
});

test('a replica without a majority is healthy, not ready, and says why', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 3, groups: 4 });
  const store = cluster.store(0);
  await Promise.all([cluster.store(1).halt(), cluster.store(2).halt()]);
  await cluster.until('no group has a master', () => store.ready().reason === 'groups 0-3 without a master');
  t.is((await page(store.admin_port, '/healthz')).status, 200);
  t.deepEqual(await page(store.admin_port, '/readyz'), { status: 503, text: 'groups 0-3 without a master\n' });
});

test('a new replica whose peers have never been there says whom it waits for, and again', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 3 });
  const { admin_port } = await cluster.startOne(0);
  const [, second, third] = cluster.addresses.map(({ paxos_port }, i) => `replica ${i + 1} (127.0.0.1:${paxos_port})`);
  const sentence =
    `it waits to hear from ${second}, ${third}: ` +
    'a new cluster forms only when all 3 replicas have been up together';
  t.deepEqual(await page(admin_port, '/readyz'), { status: 503, text: `${sentence}\n` });
  const line =
    `0 ERROR MASTERSTAT: ERR: Propose err. paxos_ret 404: no master for group 0: this replica does not vote: ` +
    `${sentence} (1 of 3 replicas are connected)`;
  await cluster.until('the log says so twice', () => cluster.lines.filter((logged) => logged === line).length >= 2);
});

test('after a failed write a replica says so, answers nothing any more and asks to be ended, once', async (t) => {
  const cluster = await StoreCluster.prepare(t, { replicas: 1 });
  const logs: FailingLog[] = [];
  const store = await cluster.startOne(0, {
    openLog: async (options) => {
      const log = new FailingLog(await openLog(options));
      logs.push(log);
      return log;
    },
  });
  await cluster.until('the replica is ready', () => store.ready().ok);
  for (const log of logs) log.broken = true;
  const connection = await RawConnection.open(cluster.addresses[0]?.port ?? 0);
  const body = addBody(0, [testItem('never acknowledged')]);
  const head = `POST /phxqueue_phxrpc/store/Add HTTP/1.0\r\nContent-Length: ${body.length}\r\n\r\n`;
  await t.throwsAsync(connection.exchange(Buffer.from(head), body));
  await cluster.until('the process is asked to end', () => cluster.fatal.length > 0);
  t.like(cluster.fatal, [{ code: 'LOG_POISONED' }]);
  t.is(cluster.fatal.length, 1);
  t.deepEqual(store.health(), { ok: false, reason: 'LOG_POISONED: the disk is gone' });
  t.true(cluster.lines.includes('0 ERROR LOG_POISONED: the disk is gone; this replica stops'));
  await t.throwsAsync(RawConnection.open(cluster.addresses[0]?.port ?? 0));
});

test('closing twice is fine', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  const store = cluster.store(0);
  await t.notThrowsAsync(Promise.all([store.close(), store.close(), store.halt()]));
});
