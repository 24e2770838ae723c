/** log/clear_log.sh and data/clear_data.sh, on a copy of the repository's folders. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';

function repository(t: ExecutionContext): string {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'phxqueue-clear-')));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  for (const folder of ['log', 'data']) {
    mkdirSync(join(root, folder, 'store.0'), { recursive: true });
    writeFileSync(join(root, folder, 'store.0', 'file'), 'content');
    copyFileSync(resolve(folder, `clear_${folder}.sh`), join(root, folder, `clear_${folder}.sh`));
  }
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'bin', 'store_main'), 'process.stdin.resume();');
  return root;
}

for (const folder of ['log', 'data']) {
  const script = `${folder}/clear_${folder}.sh`;

  test(`${script} removes the servers' folders and nothing else`, (t) => {
    const root = repository(t);
    const { status, stdout } = spawnSync(join(root, script), { cwd: tmpdir(), encoding: 'utf8' });
    t.is(status, 0);
    t.is(stdout, `${folder}/ is clean\n`);
    t.deepEqual(readdirSync(join(root, folder)), [`clear_${folder}.sh`]);
  });

  test(`${script} refuses while a server of this repository runs`, async (t) => {
    const root = repository(t);
    const server = spawn(process.execPath, [join(root, 'bin/store_main'), '-c', 'etc/store_server.0.conf'], {
      cwd: root,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    await once(server, 'spawn');
    const { status, stderr } = spawnSync(join(root, script), { cwd: tmpdir(), encoding: 'utf8' });
    t.is(status, 1);
    t.is(stderr, `a server runs (process ${server.pid}); stop it first: kill ${server.pid}\n`);
    t.deepEqual(readdirSync(join(root, folder)), [`clear_${folder}.sh`, 'store.0']);
    server.stdin.end();
    await once(server, 'close');
  });
}
