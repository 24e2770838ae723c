import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 3_000;

test.serial('all three stores are killed at once and lose nothing that was acknowledged', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const running = load.run(ITEMS);
  for (let round = 1; round <= 2; round += 1) {
    t.true(await ledger.reached((round * ITEMS) / 4, SETTLE_WITHIN_MS));
    await Promise.all(cluster.stores.map((store) => store.kill()));
    for (const store of cluster.stores) store.start();
    await cluster.ready();
  }
  await running;
  await assertBalanced(t, ledger, ITEMS);
});
