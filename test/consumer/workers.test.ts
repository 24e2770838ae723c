import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Consumer, type ConsumerOptions } from '../../src/ts/consumer/consumer.js';
import { CONSUMER_PORT, type Deployment, deploy, quickQueue } from '../support/deployment.js';
import { queueItem } from '../support/items.js';

const STALL_ONCE = new URL('../support/handlers/stall_once.js', import.meta.url);
const WAIT_MS = 20_000;

/** The log of a consumer, whose lines can be waited for. */
class Lines {
  readonly all: string[] = [];
  readonly #watchers = new Set<() => void>();

  add(line: string): void {
    this.all.push(line);
    for (const check of [...this.#watchers]) check();
  }

  /** The first line that matches, as soon as there is one. */
  match(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no line ${pattern} in:\n${this.all.join('\n')}`)), WAIT_MS);
      const check = (): void => {
        for (const line of this.all) {
          const found = pattern.exec(line);
          if (found === null) continue;
          clearTimeout(timer);
          this.#watchers.delete(check);
          resolve(found);
          return;
        }
      };
      this.#watchers.add(check);
      check();
    });
  }
}

interface Fixture extends Deployment {
  readonly consumer: Consumer;
  readonly lines: Lines;
}

async function start(t: ExecutionContext, options: Partial<ConsumerOptions> = {}): Promise<Fixture> {
  const deployed = await deploy(t, { queue_infos: [quickQueue(1, '0-2')] });
  const lines = new Lines();
  const consumer = new Consumer({
    global_config_path: deployed.global_config_path,
    ip: '127.0.0.1',
    port: CONSUMER_PORT,
    handler_modules: { 1: STALL_ONCE },
    nproc: 2,
    dead_letter_path: join(deployed.folder, 'dead_letters.jsonl'),
    grace_ms: 5_000,
    log: (level, line) => lines.add(`${level}: ${line}`),
    ...options,
  });
  t.teardown(() => consumer.stop());
  consumer.start();
  return { ...deployed, consumer, lines };
}

test('workers share the queues, report what they did, and leave when told', async (t) => {
  const { consumer, store, lines } = await start(t);
  for (const queue_id of [0, 1, 2]) store.put(queue_id, [queueItem(`in ${queue_id}`, 1n)]);
  await store.until(() => [0, 1, 2].every((queue_id) => store.acknowledged(queue_id) === 1), 'all are acknowledged');
  await lines.match(/worker 0, process \d+, serves 2 queues/);
  await lines.match(/worker 1, process \d+, serves 1 queues/);
  t.is(consumer.obstacle, null);
  const pids = consumer.worker_pids;
  t.is(pids.length, 2);
  await consumer.stop();
  t.is(consumer.figures.counts.handled, 3);
  t.is(consumer.figures.lags.length, 3);
  for (const pid of pids) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test('a worker that is killed is replaced, and its items are delivered again', async (t) => {
  const { folder, consumer, store, lines } = await start(t, { nproc: 1 });
  store.put(0, [queueItem('before', 1n), queueItem(join(folder, 'stall'), 1n), queueItem('after', 1n)]);
  const [, pid] = await lines.match(/stalls (\d+)/);
  t.is(store.acknowledged(0), 0);
  process.kill(Number(pid), 'SIGKILL');
  await lines.match(/worker 0 died \(signal SIGKILL\)/);
  t.not(consumer.obstacle, null);
  await store.until(() => store.acknowledged(0) === 3, 'all are acknowledged');
  t.deepEqual(
    lines.all.flatMap((line) => /handled (?!\/)(.*)/.exec(line)?.[1] ?? []),
    ['before', 'before', 'after'],
  );
  t.notDeepEqual(consumer.worker_pids, [Number(pid)]);
});

test('a worker that gets SIGTERM finishes its work and is replaced', async (t) => {
  const { consumer, store, lines } = await start(t, { nproc: 1 });
  await lines.match(/worker 0, process \d+/);
  const [pid] = consumer.worker_pids;
  process.kill(Number(pid), 'SIGTERM');
  await lines.match(/worker 0 died \(exit code 0\)/);
  store.put(0, [queueItem('a')]);
  await store.until(() => store.acknowledged(0) === 1, 'the successor has handled it');
  t.not(consumer.worker_pids[0], pid);
});

test('a worker that does not leave within the grace is killed', async (t) => {
  const { folder, consumer, store, lines } = await start(t, { nproc: 1, grace_ms: 10 });
  store.put(0, [queueItem(join(folder, 'stall'))]);
  await lines.match(/stalls (\d+)/);
  const [pid] = consumer.worker_pids;
  await consumer.stop();
  t.throws(() => process.kill(Number(pid), 0), { code: 'ESRCH' });
  t.is(store.acknowledged(0), 0);
});

test('a module without a handler makes its worker say so, and no item is lost', async (t) => {
  const { consumer, store, lines } = await start(t, {
    nproc: 1,
    handler_modules: { 1: new URL('../support/handlers/not_a_handler.js', import.meta.url) },
  });
  store.put(0, [queueItem('a')]);
  await lines.match(/worker 0 cannot start: .*not_a_handler\.js has no function as its default export/);
  await lines.match(/worker 0 died/);
  t.is(store.acknowledged(0), 0);
  t.not(consumer.obstacle, null);
});
