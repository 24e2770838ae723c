import test from 'ava';
import { assertBalanced, deploy, SETTLE_WITHIN_MS } from './fixture.js';

const ITEMS = 6_000;
/** So long that nobody takes a lease that ran out for one that was handed over, however busy the machine is. */
const LEASE_MS = 5_000;

test.serial(
  'a leading store that is asked to stop hands over: no enqueue fails, and nobody waits for its lease',
  async (t) => {
    const { cluster, ledger, load } = await deploy(t, { lease_ms: LEASE_MS });
    const stopped = await cluster.master();
    const running = load.run(ITEMS);
    t.true(await ledger.reached(ITEMS / 4, SETTLE_WITHIN_MS));
    await cluster.stores[stopped]?.stop();
    t.false(cluster.stores[stopped]?.running);
    await running;
    const { failed_tries, longest_gap_ms } = load.report();
    t.log(`longest gap between acknowledgements: ${longest_gap_ms.toFixed(0)} ms`);
    t.is(failed_tries, 0);
    t.true(longest_gap_ms < LEASE_MS / 2, `${longest_gap_ms} ms without an acknowledgement`);
    t.not(await cluster.master(), stopped);
    await assertBalanced(t, ledger, ITEMS);
  },
);
