import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 10_000;

test.serial('10,000 items survive that the leading store is killed and started again', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const killed = await cluster.master();
  const running = load.run(ITEMS);
  t.true(await ledger.reached(ITEMS / 5, SETTLE_WITHIN_MS));
  await cluster.stores[killed]?.kill();
  t.true(await ledger.reached((ITEMS * 2) / 5, SETTLE_WITHIN_MS), 'two stores serve');
  cluster.stores[killed]?.start();
  await cluster.storeReady(killed);
  await running;
  await assertBalanced(t, ledger, ITEMS);
});

test.serial('a store that follows is killed, and the service does not pause for an election', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const leader = await cluster.master(0);
  const follower = (leader + 1) % 3;
  const running = load.run(2_000);
  t.true(await ledger.reached(500, SETTLE_WITHIN_MS));
  await cluster.stores[follower]?.kill();
  await running;
  t.is(await cluster.master(0), leader);
  await assertBalanced(t, ledger, 2_000);
});
