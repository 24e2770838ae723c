// Goal: wal_tool reads the log of a running store, says that it runs, and takes nothing that moves for damage. Method:
// it is run again and again while a writer fills, removes and recycles segments, and over the folder of a serving store.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, statSync } from 'node:fs';
import { watch } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { LogFolder } from '../../src/ts/cli/wal_tool/log_folder.js';
import { RpcClient } from '../../src/ts/rpc/client.js';
import type { LogFile } from '../../src/ts/wal/files.js';
import { isLockName } from '../../src/ts/wal/folder_lock.js';
import { openToRead } from '../../src/ts/wal/node_files.js';
import { addBody, testItem } from '../store/requests.js';
import { StoreCluster } from '../store/store_fixture.js';
import { append, entry, folderInMemory, open, state, temporaryFolder } from '../wal/fixture.js';
import { walTool } from './wal_tool_fixture.js';

/** Entries that are kept: what takes longer to write than to read. */
const LAG = 2000;
const HELD = /a living process holds the folder \(lock-[0-9a-f]{16}\)/;

test('while segments are filled, removed and recycled, nothing looks damaged', async (t) => {
  t.timeout(120_000);
  const folder = join(temporaryFolder(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes: 32 * 1024 });
  let instance = 0;
  let stopped = false;
  const write = async (): Promise<void> => {
    while (!stopped && t.passed) {
      instance++;
      await append(
        log,
        entry(1, instance, Buffer.alloc((instance * 131) % 6000, instance)),
        state(1, 0, String(instance)),
      );
      if (instance % 50 === 0) log.truncate(1, instance - LAG);
    }
  };
  const writers = [write(), write(), write()];
  for (let round = 0; round < 8; round++) {
    const before = instance;
    const verified = await walTool('verify', folder);
    t.deepEqual([verified.status, verified.stderr], [0, ''], verified.stdout);
    t.regex(verified.stdout, HELD);
    const inspected = JSON.parse((await walTool('inspect', folder, '--json')).stdout);
    t.regex(inspected.holder, /^lock-/);
    t.is(inspected.problems, 0, JSON.stringify(inspected));
    const dumped = await walTool('dump', folder, '--bodies', 'base64');
    t.regex(dumped.stderr, HELD);
    t.is(dumped.status, 0);
    const records = dumped.lines.map((line) => JSON.parse(line));
    t.true(records.some(({ kind }) => kind === 'entry'));
    t.deepEqual(
      records.filter(({ status }) => status === 'damaged'),
      [],
    );
    t.true(instance > before, 'the writer went on');
  }
  stopped = true;
  await Promise.all(writers);
  t.is(readdirSync(folder).filter(isLockName).length, 1, 'the lock is where it was');
  await append(log, entry(2, 1, 'and takes more'));
  await log.close();
  t.is((await walTool('verify', folder)).status, 0);
});

test('a batch that is written while the newest segment is read is no damage; what stays damaged is', async (t) => {
  const path = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', path);
  for (let instance = 1; instance <= 4; instance++) await append(log, entry(1, instance, 'x'.repeat(100)));
  const record_bytes = 40 + 104;
  const [second, third] = [4096 + record_bytes, 4096 + 2 * record_bytes];
  let readings = 0;
  // Pages of the first reading are older than those behind them; the disk's own damage is there each time.
  const openFile = async (name: string): Promise<LogFile> => {
    const file = await openToRead(name);
    const read = async (target: Uint8Array, position: number): Promise<number> => {
      const filled = await file.read(target, position);
      if (!name.endsWith('.seg') || target.length <= 4096) return filled;
      readings++;
      target.fill(0x51, third, third + 50);
      if (readings === 1) target.fill(0, second, second + 50);
      return filled;
    };
    return {
      size: () => file.size(),
      read,
      write: (buffers, position) => file.write(buffers, position),
      sync: () => file.sync(),
      close: () => file.close(),
    };
  };
  const folder = await LogFolder.open(path, { openFile });
  const instances: number[] = [];
  const found = await folder.scan(1, ({ instance }) => instances.push(instance));
  t.is(readings, 3, 'until two of them agree');
  t.deepEqual(
    found?.scan.corrupt.map(({ offset }) => offset),
    [third],
  );
  t.deepEqual(instances, [1, 2, 4]);
  await log.close();
});

test('the log of another process: held while it lives, killed at any moment it is clean or torn', async (t) => {
  const folder = join(folderInMemory(t), 'log');
  const appender = fileURLToPath(new URL('../wal/appender.js', import.meta.url));
  // Into a file: a pipe that is not emptied in time would stop the writer.
  const numbers = join(dirname(folder), 'numbers');
  const stdout = openSync(numbers, 'w');
  const child = spawn(process.execPath, [appender, 'portable', folder, '1'], { stdio: ['ignore', stdout, 'inherit'] });
  closeSync(stdout);
  t.teardown(() => child.kill('SIGKILL'));
  const watcher = watch(dirname(folder), { signal: AbortSignal.timeout(20_000) });
  for await (const { filename } of watcher) if (filename === 'numbers' && statSync(numbers).size > 0) break;
  for (let round = 0; round < 3; round++) {
    const verified = await walTool('verify', folder);
    t.deepEqual([verified.status, verified.stderr], [0, ''], verified.stdout);
    t.regex(verified.stdout, HELD);
  }
  const refused = await walTool('repair', folder, '--write');
  t.is(refused.status, 2);
  t.regex(refused.stderr, /is in use by another process/);
  child.kill('SIGKILL');
  await once(child, 'close');
  const report = JSON.parse((await walTool('inspect', folder, '--json')).stdout);
  t.is(report.holder, null);
  t.is(report.locks_left.length, 1);
  const after = JSON.parse((await walTool('verify', folder, '--json')).stdout);
  t.deepEqual(
    after.problems.filter(({ kind }: { kind: string }) => kind !== 'torn tail'),
    [],
  );
  t.is((await walTool('repair', folder, '--write')).status, 0);
  t.is((await walTool('verify', folder)).status, 0);
});

test('the data folder of a store that serves: its items can be read', async (t) => {
  const cluster = await StoreCluster.start(t, { replicas: 1 });
  const client = new RpcClient();
  t.teardown(() => client.close());
  const [address] = cluster.addresses;
  t.truthy(address);
  if (address === undefined) return;
  const items = ['paid', 'due'].map((text) => testItem(text));
  const { result } = await client.call(address, 'store', 'Add', addBody(3, items));
  t.is(result, 0);
  const folder = cluster.dataFolder(0);
  const verified = await walTool('verify', folder);
  t.is(verified.status, 0, verified.stdout);
  t.regex(verified.stdout, HELD);
  const { lines } = await walTool('dump', folder, '--kind', 'entry', '--decode');
  const commands = lines.flatMap((line) => JSON.parse(line).decoded.value.commands);
  const adds = commands.filter(({ type }) => type === 'add');
  t.is(adds.length, 1);
  t.like(adds[0], { topic_id: 1000, store_id: 1, queue_id: 3 });
  t.deepEqual(
    adds[0].items.map(({ uin, handle_id }: { uin: string; handle_id: number }) => [uin, handle_id]),
    [
      ['7', 2],
      ['7', 2],
    ],
  );
  t.deepEqual(cluster.fatal, []);
});
