import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { fromNativeError } from '../../src/ts/wal/native_binding.js';
import { nativeAvailable, openLog } from '../../src/ts/wal/open.js';
import { engines, identity, open, temporaryFolder } from './fixture.js';

test('auto is the native engine where there is one', async (t) => {
  const log = await openLog({ engine: 'auto', folder: join(temporaryFolder(t), 'log'), identity });
  t.is(log.engine, nativeAvailable().available ? 'native' : 'portable');
  await log.close();
});

test('a missing addon has a reason, and asking for it is a configuration error', async (t) => {
  const { available, reason } = nativeAvailable();
  t.is(reason === '', available);
  if (available) return;
  await t.throwsAsync(openLog({ engine: 'native', folder: join(temporaryFolder(t), 'log'), identity }), {
    code: 'CONFIG',
    message: reason,
  });
});

test('errors of the addon become ours by the code that they begin with', (t) => {
  t.like(fromNativeError(new Error('LOG_IO: disk\nfull')), { code: 'LOG_IO', message: 'disk\nfull', retryable: false });
  t.like(fromNativeError(new Error('PROPOSE_FAST_REJECT: later')), { code: 'PROPOSE_FAST_REJECT', retryable: true });
  const defect = new Error('something else: LOG_IO: x');
  t.is(fromNativeError(defect), defect);
  t.is(fromNativeError('LOG_IO: no error'), 'LOG_IO: no error');
});

for (const engine of engines) {
  test(`${engine}: segments have 32 MiB unless told otherwise, and a wrong size or identity is a defect`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    for (const segment_bytes of [4096, 8193, 2 ** 30 + 4096]) {
      await t.throwsAsync(open(t, engine, folder, { segment_bytes }), { name: 'AssertionError' });
    }
    const short = identity.subarray(1);
    await t.throwsAsync(open(t, engine, folder, { identity: short }), { name: 'AssertionError' });
    const log = await openLog({ engine, folder, identity });
    const body = [new Uint8Array(31 * 2 ** 20)];
    await new Promise<void>((resolve, reject) => {
      log.append([{ kind: 1, group: 1, instance: 1, body }], (error) => (error === null ? resolve() : reject(error)));
    });
    t.is(log.stats().segments, 1);
    await log.close();
  });

  test(`${engine}: an open log keeps no process alive, a pending append does`, (t) => {
    const module = fileURLToPath(new URL('../../src/ts/wal/open.js', import.meta.url));
    const program = `
      import { openLog } from ${JSON.stringify(module)};
      const [engine, folder] = process.argv.slice(1);
      const log = await openLog({ engine, folder, identity: new Uint8Array(16) });
      log.append([{ kind: 1, group: 1, instance: 1, body: [] }], (error) => console.log('durable', error));
    `;
    const folder = join(temporaryFolder(t), 'log');
    const args = ['--input-type=module', '--eval', program, engine, folder];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
    t.is(stdout, 'durable null\n');
    t.is(status, 0);
  });
}
