import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { DeliveryLedger } from '../../src/ts/cli/delivery_ledger.js';
import { KeyedLoad } from '../../src/ts/cli/keyed_load.js';
import { LocalCluster, type LocalClusterOptions } from '../../src/ts/cli/local_cluster.js';
import { Producer } from '../../src/ts/producer/producer.js';

/** How long the consumers may take to hand out everything after the last fault, in milliseconds. */
export const SETTLE_WITHIN_MS = 60_000;

const SAYS_WITHIN_MS = 30_000;
const POLL_MS = 20;

export interface Deployment {
  readonly cluster: LocalCluster;
  readonly ledger: DeliveryLedger;
  readonly load: KeyedLoad;
}

/** Starts servers as processes in a folder of their own; everything is stopped and removed when the test ends. */
export async function deploy(
  t: ExecutionContext,
  options: Omit<LocalClusterOptions, 'folder'> = {},
): Promise<Deployment> {
  const deployment = await prepare(t, options);
  await deployment.cluster.start();
  return deployment;
}

/** The same, but nothing runs yet. */
export async function prepare(
  t: ExecutionContext,
  options: Omit<LocalClusterOptions, 'folder'> = {},
): Promise<Deployment> {
  const folder = await mkdtemp(join(tmpdir(), 'phxqueue-cluster-'));
  const ledger = new DeliveryLedger();
  const cluster = await LocalCluster.prepare({
    ...options,
    folder,
    onConsumerLine: (line) => ledger.consumeLine(line),
  });
  t.teardown(async () => {
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const producer = await Producer.open({ global_config_path: cluster.global_config_path });
  t.teardown(() => producer.close());
  const load = new KeyedLoad({ producer, ledger, keys: 50, pause_ms: 0 });
  return { cluster, ledger, load };
}

/** All acknowledged items arrive, and every key is in order. */
export async function assertBalanced(t: ExecutionContext, ledger: DeliveryLedger, acknowledged: number): Promise<void> {
  await ledger.settled(SETTLE_WITHIN_MS);
  const balance = ledger.balance();
  t.log(balance);
  t.is(balance.acknowledged, acknowledged);
  t.is(balance.missing, 0);
  t.is(balance.out_of_order, 0);
}

/** Waits until a store's /readyz says something; false if it does not in time. */
export async function says(cluster: LocalCluster, store: number, pattern: RegExp): Promise<boolean> {
  const deadline_ms = performance.now() + SAYS_WITHIN_MS;
  while (performance.now() < deadline_ms) {
    const response = await fetch(cluster.storeUrl(store, '/readyz')).catch(() => null);
    if (response !== null && pattern.test(await response.text())) return true;
    await delay(POLL_MS);
  }
  return false;
}
