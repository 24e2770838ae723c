import test from 'ava';
import { RpcClient } from '../../src/ts/rpc/client.js';
import { deploy, says } from './fixture.js';

test.serial('one store of three says so and serves nothing; with a second one it serves again', async (t) => {
  const { cluster, load, ledger } = await deploy(t, { consumers: 0 });
  await load.run(100);
  await Promise.all([cluster.stores[1]?.kill(), cluster.stores[2]?.kill()]);
  t.true(await cluster.storeLogged(0, 'MASTERSTAT: ERR: Propose err. paxos_ret 404'));
  // A line like that may be one of the start: this is what holds now.
  t.true(await says(cluster, 0, /^group 0 without a master/));
  const client = new RpcClient();
  t.teardown(() => client.close());
  const body = Buffer.from([0x08, 0xe8, 0x07, 0x10, 0x01, 0x18, 0x00, 0x28, 0x0a, 0x38, 0x01]);
  const refused = await client.call(cluster.storeAddress(0), 'store', 'Get', body);
  t.is(refused.result, 10105);
  cluster.stores[1]?.start();
  await cluster.storeReady(1);
  await load.run(100);
  t.is(ledger.balance().acknowledged, 200);
});
