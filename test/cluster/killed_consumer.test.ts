import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 3_000;

test.serial('all consumers are killed, and their successors go on behind the last acknowledgement', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const running = load.run(ITEMS);
  t.true(await ledger.reached(ITEMS / 4, SETTLE_WITHIN_MS));
  await Promise.all(cluster.consumers.map((consumer) => consumer.kill()));
  for (const consumer of cluster.consumers) consumer.start();
  await running;
  await assertBalanced(t, ledger, ITEMS);
});
