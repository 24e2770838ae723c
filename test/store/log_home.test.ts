import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { logIdentity } from '../../src/ts/paxos/identity.js';
import { readNodeRecords } from '../../src/ts/paxos/node_records.js';
import { LogHome, NEW_LOG_FOLDER } from '../../src/ts/store/log_home.js';
import { type LogEngine, RecordKind } from '../../src/ts/wal/engine.js';
import { segmentName } from '../../src/ts/wal/format.js';
import { NodeFiles } from '../../src/ts/wal/node_files.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { append } from '../wal/fixture.js';

const IDENTITY = logIdentity({ cluster: 'test', replica: 1, groups: 1 });
const REPLICAS = 3;
const DAMAGE = new PhxError('LOG_CORRUPT', 'damaged');

/** After `calls` changes of names, or waits for one, the process is gone. */
class MortalFiles extends NodeFiles {
  calls: number;

  constructor(calls: number) {
    super();
    this.calls = calls;
  }

  override rename(from: string, to: string): Promise<void> {
    this.#count();
    return super.rename(from, to);
  }

  override unlink(path: string): Promise<void> {
    this.#count();
    return super.unlink(path);
  }

  override syncFolder(folder: string): Promise<void> {
    this.#count();
    return super.syncFolder(folder);
  }

  #count(): void {
    this.calls -= 1;
    if (this.calls < 0) throw new Error('killed');
  }
}

function homeIn(data_dir: string, files: NodeFiles, deaths = { openings: Number.POSITIVE_INFINITY }): LogHome {
  const open = async (folder: string): Promise<LogEngine> => {
    deaths.openings -= 1;
    if (deaths.openings < 0) throw new Error('killed');
    return openPortable({ folder, identity: IDENTITY, segment_bytes: 8192 });
  };
  const logger = { warn: () => undefined, error: () => undefined };
  return new LogHome({ data_dir, open, may_set_aside: true, logger, files });
}

/** A data folder whose log holds something. */
async function folderOf(t: ExecutionContext): Promise<string> {
  const data_dir = mkdtempSync(join(tmpdir(), 'phxqueue-home-'));
  t.teardown(() => rmSync(data_dir, { recursive: true }));
  const home = homeIn(data_dir, new NodeFiles());
  const log = await home.open();
  t.is(readNodeRecords(log, REPLICAS).own, null);
  await append(log, { kind: RecordKind.entry, group: 0, instance: 1, body: [Buffer.from('an item')] });
  await home.close();
  return data_dir;
}

function holdsItem(folder: string): boolean {
  return readFileSync(join(folder, segmentName(1))).includes('an item');
}

async function setAsideIn(data_dir: string): Promise<string[]> {
  return (await readdir(data_dir)).filter((name) => name.startsWith('log.damaged-'));
}

/** Where the damaged log is: under its own name or aside, once, and whole. */
async function damagedLogIn(t: ExecutionContext, data_dir: string): Promise<string> {
  const names = (await readdir(data_dir)).filter((name) => name !== NEW_LOG_FOLDER);
  const [found = '', ...more] = names.filter((name) => holdsItem(join(data_dir, name)));
  t.deepEqual(more, []);
  t.not(found, '');
  return found;
}

for (const where of ['at a change of names', 'at an opening'] as const) {
  test(`killed ${where} while a log is set aside, a start goes on: with the damaged log, or with one that says so`, async (t) => {
    const seen = new Set<string>();
    for (let calls = 0; ; calls += 1) {
      const data_dir = await folderOf(t);
      const byName = where === 'at a change of names';
      const deaths = { openings: byName ? Number.POSITIVE_INFINITY : calls + 1 };
      const mortal = homeIn(data_dir, new MortalFiles(byName ? calls : Number.POSITIVE_INFINITY), deaths);
      await mortal.open();
      const killed = await mortal.setAside(DAMAGE).then(
        () => false,
        () => true,
      );
      await mortal.close();
      const name = await damagedLogIn(t, data_dir);
      const home = homeIn(data_dir, new NodeFiles());
      const log = await home.open();
      const { own } = readNodeRecords(log, REPLICAS);
      seen.add(name === 'log' ? 'the damaged log' : 'the new log');
      if (name === 'log') {
        t.is(own, null);
        t.is(home.set_aside, null);
        // It finds the damage again, whatever was left behind.
        const other = await home.setAside(DAMAGE);
        t.like(readNodeRecords(other, REPLICAS).own, { origin: 'damage', start: 0, formed: null, member: null });
      } else {
        t.like(own, { origin: 'damage', start: 0, agreed: null, formed: null, member: null });
      }
      await home.close();
      const [aside = ''] = await setAsideIn(data_dir);
      t.deepEqual((await readdir(data_dir)).sort(), ['log', aside]);
      t.true(holdsItem(join(data_dir, aside)));
      t.is(home.set_aside, join(data_dir, aside));
      if (!killed) break;
    }
    t.deepEqual([...seen].sort(), ['the damaged log', 'the new log']);
  });
}

test('what is left of an unfinished log is thrown away', async (t) => {
  const data_dir = await folderOf(t);
  const home = homeIn(data_dir, new NodeFiles());
  await home.open();
  const leftover = await openPortable({
    folder: join(data_dir, NEW_LOG_FOLDER),
    identity: IDENTITY,
    segment_bytes: 8192,
  });
  await append(leftover, { kind: RecordKind.entry, group: 0, instance: 1, body: [Buffer.from('left over')] });
  await leftover.close();
  const log = await home.setAside(DAMAGE);
  t.false(log.has(0, 1));
  await home.close();
});

test('a log that somebody took away beside one that was set aside begins after damage, too', async (t) => {
  const data_dir = await folderOf(t);
  const home = homeIn(data_dir, new NodeFiles());
  await home.open();
  await home.setAside(DAMAGE);
  await home.close();
  rmSync(join(data_dir, 'log'), { recursive: true });
  t.like(readNodeRecords(await home.open(), REPLICAS).own, { origin: 'damage' });
  await home.close();
});

test('a log that another process holds is not set aside', async (t) => {
  const data_dir = await folderOf(t);
  const holder = await openPortable({ folder: join(data_dir, 'log'), identity: IDENTITY, segment_bytes: 8192 });
  await t.throwsAsync(homeIn(data_dir, new NodeFiles()).setAside(DAMAGE), { code: 'LOG_LOCKED' });
  await holder.close();
  t.deepEqual(await readdir(data_dir), ['log']);
});

test('a log that cannot be set aside stays where it is, with both reasons', async (t) => {
  const data_dir = await folderOf(t);
  await writeFile(join(data_dir, NEW_LOG_FOLDER), 'in the way');
  await t.throwsAsync(homeIn(data_dir, new NodeFiles()).setAside(DAMAGE), {
    code: 'LOG_IO',
    message: /^the log is damaged \(damaged\), and cannot be set aside: ENOTDIR/,
  });
  t.true(holdsItem(join(data_dir, 'log')));
});
