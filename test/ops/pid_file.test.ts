import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PidFile } from '../../src/ts/ops/pid_file.js';

function path(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-pid-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'p_main.pid');
}

test('the file names the process and goes with it', (t) => {
  const file = path(t);
  const claimed = PidFile.claim(file, 'p_main', 'etc/p.conf');
  t.is(readFileSync(file, 'utf8'), `${process.pid}\n`);
  claimed.release();
  t.false(existsSync(file));
});

test('another process of the program that lives is respected', (t) => {
  const file = path(t);
  // Named like a program that this process's parent runs as: node.
  writeFileSync(file, `${process.ppid}\n`);
  t.throws(() => PidFile.claim(file, '', ''), { code: 'CONFIG', message: /runs already, as process \d+ .*kill \d+/ });
  t.is(readFileSync(file, 'utf8'), `${process.ppid}\n`);
});

test('a process of the program with another configuration is no obstacle', async (t) => {
  const file = path(t);
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()', 'p_main', '-c', 'etc/p.1.conf'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  await once(child, 'spawn');
  writeFileSync(file, `${child.pid}\n`);
  t.throws(() => PidFile.claim(file, 'p_main', './etc/p.1.conf'), { code: 'CONFIG' });
  PidFile.claim(file, 'p_main', 'etc/p.0.conf');
  t.is(readFileSync(file, 'utf8'), `${process.pid}\n`);
  child.stdin.end();
  await once(child, 'close');
});

test('a number left behind, taken by an unrelated process, or garbage does not matter', async (t) => {
  const file = path(t);
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'close');
  for (const text of [String(child.pid), String(process.ppid), 'garbage', '', '-1']) {
    writeFileSync(file, text);
    PidFile.claim(file, 'a program that is not running', '').release();
    t.false(existsSync(file), text);
  }
});

test('a file that another process took over stays', (t) => {
  const file = path(t);
  const claimed = PidFile.claim(file, 'p_main', 'etc/p.conf');
  writeFileSync(file, '1\n');
  claimed.release();
  t.true(existsSync(file));
});
