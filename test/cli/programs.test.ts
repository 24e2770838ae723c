import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CONSUMER_PORT, type Deployment, deploy } from '../support/deployment.js';

const WAIT_MS = 20_000;

/** A program of bin/ as a process, whose output can be waited for. */
class Program {
  readonly child: ChildProcess;
  output = '';
  errors = '';
  readonly #closed: Promise<unknown[]>;
  readonly #watchers = new Set<() => void>();

  constructor(t: ExecutionContext, name: string, args: readonly string[], cwd: string) {
    this.child = spawn(process.execPath, [resolve('bin', name), ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#closed = once(this.child, 'close');
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
      for (const check of [...this.#watchers]) check();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    t.teardown(() => this.child.kill('SIGKILL'));
  }

  match(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve_match, reject) => {
      const complain = (): void => reject(new Error(`no ${pattern} in:\n${this.output}\n${this.errors}`));
      const timer = setTimeout(complain, WAIT_MS);
      const check = (): void => {
        const found = pattern.exec(this.output);
        if (found === null) return;
        clearTimeout(timer);
        this.#watchers.delete(check);
        resolve_match(found);
      };
      this.#watchers.add(check);
      check();
    });
  }

  /** The exit code, null after a signal; resolves when all processes that hold the output have gone. */
  async exitCode(): Promise<unknown> {
    const [code] = await this.#closed;
    return code;
  }
}

function consumerMain(t: ExecutionContext, { folder, global_config_path }: Deployment): Program {
  const conf = {
    consumer: {
      ip: '127.0.0.1',
      port: CONSUMER_PORT,
      topic: 'test',
      nproc: 2,
      phxqueue_global_config_path: global_config_path,
    },
    log: { path: './log' },
    admin: { port: 0 },
  };
  writeFileSync(join(folder, 'consumer.conf'), JSON.stringify(conf));
  return new Program(t, 'consumer_main', ['-c', 'consumer.conf'], folder);
}

test('what the echo program enqueues, the consumer server prints and logs', async (t) => {
  const deployed = await deploy(t);
  const { folder, store, global_config_path } = deployed;
  const consumer = consumerMain(t, deployed);
  const [, admin_port] = await consumer.match(/serves 1 queues in 2 workers, admin port 127\.0\.0\.1:(\d+)/);

  const echo = new Program(t, 'test_producer_echo_main', ['-f', global_config_path], folder);
  t.is(await echo.exitCode(), 0);
  const [, text] = /^produce echo "([A-Za-z0-9]{10})" succeeded!\n$/.exec(echo.output) ?? [];
  t.truthy(text, echo.output + echo.errors);
  const line = `consume echo "${text}" succeeded! consumer_group_id 1 store_id 1 queue_id 0 item_uin 0`;
  await consumer.match(new RegExp(`^${line.replace('?', '\\?')}$`, 'm'));
  await store.until(() => store.acknowledged(0) === 1, 'the item is acknowledged');

  const page = async (path: string): Promise<Response> => fetch(`http://127.0.0.1:${admin_port}${path}`);
  t.is((await page('/healthz')).status, 200);
  t.is((await page('/readyz')).status, 200);
  const metrics = await (await page('/metrics')).text();
  t.regex(metrics, /^phxqueue_consumer_items_handled_total [01]$/m);
  t.regex(metrics, /^phxqueue_consumer_workers 2$/m);

  consumer.child.kill('SIGTERM');
  t.is(await consumer.exitCode(), 0, consumer.errors);
  const log = readFileSync(join(folder, 'log', 'consumer_main.INFO'), 'utf8');
  t.true(log.includes(`INFO: ${line}\n`));
  t.regex(
    log,
    /INFO: Dequeue ret 0 topic 1000 consumer_group_id 1 store_id 1 queue_id 0 size 1 prev_cursor_id 0 next_cursor_id 1\n/,
  );
});

test('workers do not outlive a consumer server that is killed', async (t) => {
  const deployed = await deploy(t);
  const consumer = consumerMain(t, deployed);
  await consumer.match(/serves 1 queues/);
  await deployed.store.until(() => deployed.store.gets.length > 0, 'a worker fetches');
  consumer.child.kill('SIGKILL');
  // The workers hold the other end of the output.
  t.is(await consumer.exitCode(), null);
});

test('the echo program says what went wrong', async (t) => {
  const { folder, store, global_config_path } = await deploy(t);
  store.addFate = () => ({ result: -10104 });
  const echo = new Program(t, 'test_producer_echo_main', ['-f', global_config_path], folder);
  t.is(await echo.exitCode(), 1);
  t.regex(echo.output, /^produce echo "[A-Za-z0-9]{10}" failed return -10104!\n$/);
  t.regex(echo.errors, /RANGE_QUEUE/);

  store.addFate = () => null;
  const here = new Program(t, 'test_producer_echo_main', [], folder);
  t.is(await here.exitCode(), 0, 'etc/globalconfig.conf of the working directory is the default');
});

test('a configuration that is not there, and options that are none, are one line', async (t) => {
  const { folder } = await deploy(t);
  for (const [name, args, pattern] of [
    ['test_producer_echo_main', ['-f', 'nowhere.conf'], /^test_producer_echo_main: .*nowhere\.conf.*\n$/],
    ['test_producer_echo_main', ['--nothing'], /^test_producer_echo_main: .*--nothing/],
    ['producer_benchmark_main', ['1', '2', '3'], /four or five numbers/],
    ['producer_benchmark_main', ['x', '1', '1', '1'], /QPS must be an integer/],
  ] as const) {
    const program = new Program(t, name, args, folder);
    t.is(await program.exitCode(), 1);
    t.regex(program.errors, pattern);
    t.is(program.errors.trim().split('\n').length, 1);
  }
  for (const name of ['test_producer_echo_main', 'producer_benchmark_main']) {
    const help = new Program(t, name, ['--help'], folder);
    t.is(await help.exitCode(), 0);
    t.regex(help.output, /usage:/);
  }
});

test('the benchmark enqueues at its rate and prints its block, after a time or at Ctrl-C', async (t) => {
  const { folder, store } = await deploy(t);
  const timed = new Program(t, 'producer_benchmark_main', ['200', '2', '3', '10', '--seconds', '1'], folder);
  t.is(await timed.exitCode(), 0, timed.errors);
  t.true(
    timed.output.startsWith(
      'ndaemon_batch_thread 0\nqps: 200\nnthread: 2\nnroutine: 3\nroutine_sleep_time(ms): 30\nstart run...\n',
    ),
  );
  const [, total] = /^--\ttotal:\t(\d+)$/m.exec(timed.output) ?? [];
  t.true(Number(total) > 0);
  t.is(store.items(0).length, Number(total));
  t.is(store.texts(0)[0], 'aaaaaaaaaa');
  t.like(store.items(0)[0], { pub_id: 1, meta: { handle_id: 1, uin: 0n } });

  const endless = new Program(t, 'producer_benchmark_main', ['100', '5', '2', '1', '1'], folder);
  await endless.match(/start run/);
  await store.until(() => store.items(0).length > Number(total), 'it enqueues');
  endless.child.kill('SIGINT');
  t.is(await endless.exitCode(), 0, endless.errors);
  t.regex(endless.output, /^--\tp50\/p99\/p99\.9_usetime\(ms\):\t/m);
});
