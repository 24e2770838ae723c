import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 3_000;

test.serial('a leader that is stopped for a while finds another one in its place', async (t) => {
  const { cluster, ledger, load } = await deploy(t);
  const paused = await cluster.master();
  const running = load.run(ITEMS);
  t.true(await ledger.reached(ITEMS / 4, SETTLE_WITHIN_MS));
  cluster.stores[paused]?.signal('SIGSTOP');
  t.true(await ledger.reached(ITEMS / 2, SETTLE_WITHIN_MS), 'the others serve');
  cluster.stores[paused]?.signal('SIGCONT');
  await running;
  t.not(await cluster.master(), paused);
  await assertBalanced(t, ledger, ITEMS);
});
