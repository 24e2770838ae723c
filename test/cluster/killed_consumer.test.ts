import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 3_000;

test.serial('a consumer is killed, and its successor goes on behind the last acknowledgement', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const running = load.run(ITEMS);
  t.true(await ledger.reached(ITEMS / 4, SETTLE_WITHIN_MS));
  const [consumer] = cluster.consumers;
  await consumer?.kill();
  consumer?.start();
  await running;
  await assertBalanced(t, ledger, ITEMS);
});
