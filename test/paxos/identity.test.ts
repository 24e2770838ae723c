import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { claimFolder, logIdentity } from '../../src/ts/paxos/identity.js';

const identity = { cluster: 'test/store/1', replica: 1, groups: 3 };

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'phxqueue-identity-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test('a new folder takes the identity and keeps it', async (t) => {
  const path = join(folder(t), 'data');
  await claimFolder(path, identity);
  const written = readFileSync(join(path, 'identity.json'), 'utf8');
  await claimFolder(path, identity);
  t.is(readFileSync(join(path, 'identity.json'), 'utf8'), written);
});

for (const change of [{ cluster: 'test/store/2' }, { replica: 2 }, { groups: 4 }]) {
  const [key = ''] = Object.keys(change);
  test(`the folder of another ${key} is refused, and stays as it is`, async (t) => {
    const path = folder(t);
    await claimFolder(path, identity);
    const before = readFileSync(join(path, 'identity.json'), 'utf8');
    const error = await t.throwsAsync(claimFolder(path, { ...identity, ...change }), { code: 'CONFIG' });
    t.regex(error.message, new RegExp(`belongs to ${key}`));
    t.is(readFileSync(join(path, 'identity.json'), 'utf8'), before);
  });
}

test('a damaged identity file is refused', async (t) => {
  for (const text of ['', '{', '[]', '{"cluster":1,"replica":1,"groups":1}']) {
    const path = folder(t);
    writeFileSync(join(path, 'identity.json'), text);
    await t.throwsAsync(claimFolder(path, identity), { code: 'CONFIG' });
  }
});

test('the log is told apart by 16 bytes', (t) => {
  t.is(logIdentity(identity).length, 16);
  t.deepEqual(logIdentity(identity), logIdentity({ ...identity }));
  t.notDeepEqual(logIdentity(identity), logIdentity({ ...identity, replica: 2 }));
});
