/** New stores, wiped disks and old folders, with real processes. */
import { cp, rm } from 'node:fs/promises';
import test from 'ava';
import type { LocalCluster } from '../../src/ts/cli/local_cluster.js';
import { RpcClient } from '../../src/ts/rpc/client.js';
import { assertBalanced, deploy, prepare, says } from './fixture.js';

const GET_BODY = Buffer.from([0x08, 0xe8, 0x07, 0x10, 0x01, 0x18, 0x00, 0x28, 0x0a, 0x38, 0x01]);
const NO_MASTER = 10105;

/** What a store answers to a Get. */
async function answerOf(cluster: LocalCluster, store: number): Promise<number> {
  const client = new RpcClient();
  try {
    return (await client.call(cluster.storeAddress(store), 'store', 'Get', GET_BODY)).result;
  } finally {
    await client.close();
  }
}

async function wipe(cluster: LocalCluster, store: number): Promise<void> {
  await rm(cluster.storeFolder(store), { recursive: true });
}

test.serial('a new store serves nothing until all replicas are there, and then everything', async (t) => {
  const { cluster, ledger, load } = await prepare(t, { consumers: 1 });
  cluster.stores[0]?.start();
  cluster.stores[1]?.start();
  cluster.consumers[0]?.start();
  for (const store of [0, 1]) {
    t.true(await cluster.storeLogged(store, 'this replica does not vote: it waits to hear from replica 3'));
    t.is(await answerOf(cluster, store), NO_MASTER);
    t.true(await says(cluster, store, /^it waits to hear from replica 3 .* all 3 replicas have been up together/));
  }
  cluster.stores[2]?.start();
  await cluster.ready();
  await load.run(300);
  await assertBalanced(t, ledger, 300);
});

test.serial(
  'a store whose disk was wiped votes again by itself, then another may be wiped, and nothing is lost',
  async (t) => {
    const { cluster, ledger, load } = await deploy(t, { consumers: 1 });
    await load.run(300);
    let items = 300;
    for (const lost of [2, 0]) {
      await cluster.stores[lost]?.kill();
      await wipe(cluster, lost);
      await load.run(100);
      cluster.stores[lost]?.start();
      t.true(await cluster.storeLogged(lost, 'its folder was empty, but the cluster exists'));
      await load.run(100);
      items += 200;
      await cluster.storeReady(lost);
      t.true(await cluster.storeLogged(lost, 'this replica is a member of all groups, in its own place'));
    }
    // The two that lost their disks are a majority now.
    await cluster.stores[1]?.kill();
    await load.run(100);
    items += 100;
    await cluster.stores[0]?.kill();
    t.true(await says(cluster, 2, /without a master/));
    cluster.stores[0]?.start();
    cluster.stores[1]?.start();
    await cluster.ready();
    await assertBalanced(t, ledger, items);
  },
);

test.serial('with two of three disks wiped nothing is served, and each says why', async (t) => {
  const { cluster, load } = await deploy(t, { consumers: 0 });
  await load.run(100);
  await Promise.all(cluster.stores.map((store) => store.kill()));
  await wipe(cluster, 1);
  await wipe(cluster, 2);
  // The two alone do not pass for a new store.
  cluster.stores[1]?.start();
  cluster.stores[2]?.start();
  for (const store of [1, 2]) {
    t.true(await cluster.storeLogged(store, 'this replica does not vote: it waits to hear from replica 1'));
    t.is(await answerOf(cluster, store), NO_MASTER);
  }
  cluster.stores[0]?.start();
  for (const store of [1, 2]) t.true(await cluster.storeLogged(store, 'its folder was empty, but the cluster exists'));
  t.true(await cluster.storeLogged(0, 'it votes again once 1 of replica 2'));
  for (const store of [0, 1, 2]) t.is(await answerOf(cluster, store), NO_MASTER);
});

test.serial('a folder that was replaced by an older copy is recognised, and its replica joins anew', async (t) => {
  const { cluster, ledger, load } = await deploy(t, { consumers: 1 });
  const copy = `${cluster.storeFolder(2)}.copy`;
  await cluster.stores[2]?.stop();
  await cp(cluster.storeFolder(2), copy, { recursive: true });
  cluster.stores[2]?.start();
  await cluster.storeReady(2);
  await load.run(300);
  await cluster.stores[2]?.kill();
  await wipe(cluster, 2);
  await cp(copy, cluster.storeFolder(2), { recursive: true });
  cluster.stores[2]?.start();
  t.true(await cluster.storeLogged(2, 'it has no vote: its folder is older than what it had told the others'));
  await load.run(300);
  await cluster.storeReady(2);
  await cluster.stores[0]?.kill();
  await load.run(100);
  await assertBalanced(t, ledger, 700);
});

test.serial(
  'two replicas form a new store by themselves if they are told to; the third joins later, and votes',
  async (t) => {
    const { cluster, load, ledger } = await prepare(t, { consumers: 0 });
    for (const store of [0, 1]) cluster.stores[store]?.start(['--form-with-majority']);
    await cluster.ready();
    await load.run(100);
    t.is(ledger.balance().acknowledged, 100);
    cluster.stores[2]?.start();
    t.true(await cluster.storeLogged(2, 'it has no vote: its folder was empty, but the cluster exists'));
    await cluster.storeReady(2);
    await cluster.stores[0]?.kill();
    await load.run(100);
    t.is(ledger.balance().acknowledged, 200);
  },
);
