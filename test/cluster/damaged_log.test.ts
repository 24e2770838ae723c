/** A flipped bit in the log of a store that does not run, with real processes. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { rot } from '../store/bit_rot.js';
import { assertBalanced, deploy, says } from './fixture.js';

const GROUPS = 4;

test.serial('a store whose log is damaged sets it aside and votes again by itself, and nothing is lost', async (t) => {
  const { cluster, ledger, load } = await deploy(t, { consumers: 1, groups: GROUPS });
  await load.run(300);
  let items = 300;
  for (const damaged of [1, 2]) {
    await cluster.stores[damaged]?.stop();
    const identity = { cluster: 'test/store/1', replica: damaged + 1, groups: GROUPS };
    await rot(
      join(cluster.storeFolder(damaged), 'log'),
      identity,
      damaged === 1 ? 'an entry' : 'the header of a record',
    );
    await load.run(100);
    cluster.stores[damaged]?.start();
    t.true(await cluster.storeLogged(damaged, 'THE LOG WAS DAMAGED'));
    t.true(await cluster.storeLogged(damaged, 'it has no vote: its log was damaged'));
    await load.run(100);
    items += 200;
    await cluster.storeReady(damaged);
    const names = await readdir(cluster.storeFolder(damaged));
    t.deepEqual(
      names.sort().map((name) => name.replace(/\d{8}T\d{6}Z/, 'T')),
      ['identity.json', 'log', 'log.damaged-T'],
    );
    t.is(await cluster.metric(damaged, 'phxqueue_log_set_aside'), 1);
  }
  // The two whose logs were damaged are a majority now.
  await cluster.stores[0]?.kill();
  await load.run(100);
  items += 100;
  await cluster.stores[1]?.kill();
  t.true(await says(cluster, 2, /without a master/));
  cluster.stores[0]?.start();
  cluster.stores[1]?.start();
  await cluster.ready();
  await assertBalanced(t, ledger, items);
});
