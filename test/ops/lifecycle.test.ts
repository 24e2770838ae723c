/** Store processes as a person starts them: options, failures, the background, signals. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { LocalCluster } from '../../src/ts/cli/local_cluster.js';

const POLL_MS = 20;
const WITHIN_MS = 30_000;
const CONF = ['-c', 'etc/store_server.0.conf'];

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder with the configuration of a store. */
async function folder(t: ExecutionContext): Promise<string> {
  const path = mkdtempSync(join(tmpdir(), 'phxqueue-life-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  await LocalCluster.prepare({ folder: path, engine: 'portable' });
  return path;
}

async function run(cwd: string, ...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [resolve('bin/store_main'), ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline_ms = performance.now() + WITHIN_MS;
  while (!holds()) {
    if (performance.now() > deadline_ms) throw new Error(`not within ${WITHIN_MS} ms`);
    await delay(POLL_MS);
  }
}

function pidOf(cwd: string): number {
  return Number(readFileSync(join(cwd, 'log/store.0/store_main.pid'), 'utf8'));
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('help and version are printed, and nothing starts', async (t) => {
  for (const option of ['--help', '-h', '-v']) {
    const { code, stdout } = await run(tmpdir(), option);
    t.is(code, 0);
    t.regex(stdout, /^store_main, PhxQueue for Node \d+\.\d+\.\d+: .*\n\nusage: store_main -c FILE/);
  }
});

test('wrong options are one line on standard error', async (t) => {
  for (const [args, message] of [
    [[], /^store_main: a configuration file is needed: -c FILE \(see store_main --help\)\n$/],
    [['--nonsense'], /^store_main: Unknown option '--nonsense'.*\n$/],
    [['-c', 'x', '-l', '7'], /^store_main: -l 7: a log level is 0 \(info\), .*\n$/],
    [['-c', 'missing.conf'], /^store_main: missing\.conf: no such file; .*\n$/],
  ] as const) {
    const { code, stderr, stdout } = await run(tmpdir(), ...args);
    t.is(code, 1, args.join(' '));
    t.regex(stderr, message);
    t.is(stdout, '');
  }
});

test('in the background: returns when it listens, refuses a second one, stops on SIGTERM', async (t) => {
  const cwd = await folder(t);
  const started = await run(cwd, ...CONF, '-d');
  t.is(started.code, 0, started.stderr);
  t.regex(started.stdout, /^store_main serves store 1 .*, process \d+; log: log\/store\.0\/store_main\.INFO\n$/);
  const pid = pidOf(cwd);
  t.true(lives(pid));
  t.regex(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /bin\/store_main\0-c\0etc\/store_server\.0\.conf/);

  const second = await run(cwd, ...CONF, '-d');
  t.is(second.code, 1);
  t.regex(second.stderr, new RegExp(`runs already, as process ${pid} .*stop it first: kill ${pid}`));

  process.kill(pid, 'SIGTERM');
  await until(() => !lives(pid));
  t.false(existsSync(join(cwd, 'log/store.0/store_main.pid')));
  t.is(readFileSync(join(cwd, 'log/store.0/store_main.stderr'), 'utf8').split('runs already').length, 2);
  t.regex(readFileSync(join(cwd, 'log/store.0/store_main.INFO'), 'utf8'), /INFO: store_main stopped\n$/);
});

test('in the background: a start that fails says why', async (t) => {
  const cwd = await folder(t);
  t.is((await run(cwd, ...CONF, '-d')).code, 0);
  const pid = pidOf(cwd);
  // Same address, log elsewhere: the process id file does not tell, the port does.
  const conf = readFileSync(join(cwd, CONF[1] ?? ''), 'utf8');
  writeFileSync(join(cwd, 'etc/other.conf'), conf.replaceAll('store.0', 'other'));
  const { code, stderr } = await run(cwd, '-c', 'etc/other.conf', '-d');
  t.is(code, 1);
  t.regex(stderr, /^store_main: .*EADDRINUSE.*\n$/);
  process.kill(pid, 'SIGTERM');
  await until(() => !lives(pid));
});

test('in the foreground: SIGINT ends it with exit code 0', async (t) => {
  const cwd = await folder(t);
  const ended = run(cwd, ...CONF);
  await until(() => existsSync(join(cwd, 'log/store.0/store_main.pid')));
  const log = (): string => readFileSync(join(cwd, 'log/store.0/store_main.INFO'), 'utf8');
  await until(() => log().includes('store_main serves'));
  process.kill(pidOf(cwd), 'SIGINT');
  const { code, stdout } = await ended;
  t.is(code, 0);
  t.regex(stdout, /^store_main serves store 1/);
});

test('few open files are warned about', async (t) => {
  const cwd = await folder(t);
  const shell = spawn(
    'sh',
    ['-c', `ulimit -n 1000 && exec "${process.execPath}" "${resolve('bin/store_main')}" ${CONF.join(' ')}`],
    {
      cwd,
      stdio: 'ignore',
    },
  );
  const path = join(cwd, 'log/store.0/store_main.INFO');
  await until(() => existsSync(path) && readFileSync(path, 'utf8').includes('store_main serves'));
  t.regex(
    readFileSync(path, 'utf8'),
    /WARNING: only 1000 open files are allowed, 4000 are needed under load; .*ulimit -n/,
  );
  shell.kill('SIGTERM');
  await once(shell, 'close');
});
