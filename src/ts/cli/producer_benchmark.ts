/** The program producer_benchmark_main: enqueues at a given rate and reports how that went. */
import { setMaxListeners } from 'node:events';
import { parseArgs } from 'node:util';
import { PhxError } from '../errors.js';
import { pause } from '../producer/backoff.js';
import { EnqueueError } from '../producer/enqueue_error.js';
import { Producer } from '../producer/producer.js';
import { RetCode } from '../protocol/ret_code.js';
import { GLOBAL_CONFIG_PATH } from './defaults.js';
import { LatencyReport } from './latency_report.js';

const USAGE = `producer_benchmark_main: enqueues items at a given rate; prints every 10 s how that went

usage: producer_benchmark_main QPS NTHREAD NROUTINE BUF_SIZE [NDAEMON_BATCH_THREAD] [-f FILE] [--seconds N]

  QPS                    items per second to aim at
  NTHREAD                groups of callers (all run in one thread here)
  NROUTINE               callers in each group; each has one item on its way at a time
  BUF_SIZE               bytes of an item
  NDAEMON_BATCH_THREAD   above 0: items of concurrent callers travel in one request (default 0)
  -f, --config FILE      global configuration (default ${GLOBAL_CONFIG_PATH})
  --seconds N            stop after N seconds (default: at Ctrl-C)
  --help                 this text
`;

const HANDLE_ID = 1;
const PUB_ID = 1;
const BLOCK_MS = 10_000;
const ROUTINES_MAX = 100_000;
const BUF_BYTES_MAX = 64 * 1024 * 1024;

interface Settings {
  readonly qps: number;
  readonly nthread: number;
  readonly nroutine: number;
  readonly buf_size: number;
  readonly ndaemon_batch_thread: number;
  readonly config: string;
  /** Infinite unless the command line says otherwise. */
  readonly run_ms: number;
}

/** Runs the program with its command-line arguments; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    const settings = parse(argv);
    if (settings === 'usage') process.stdout.write(USAGE);
    else await run(settings);
  } catch (error) {
    const text = error instanceof PhxError || error instanceof TypeError ? error.message : String(error);
    process.stderr.write(`producer_benchmark_main: ${text} (see producer_benchmark_main --help)\n`);
    process.exitCode = 1;
  }
}

function parse(argv: readonly string[]): Settings | 'usage' {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      config: { type: 'string', short: 'f', default: GLOBAL_CONFIG_PATH },
      seconds: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help || positionals.length === 0) return 'usage';
  const [qps, nthread, nroutine, buf_size, batch, ...others] = positionals;
  if (buf_size === undefined || others.length > 0) throw new PhxError('CONFIG', 'four or five numbers are needed');
  const settings = {
    qps: numberOf('QPS', qps, 1, 10_000_000),
    nthread: numberOf('NTHREAD', nthread, 1, ROUTINES_MAX),
    nroutine: numberOf('NROUTINE', nroutine, 1, ROUTINES_MAX),
    buf_size: Math.max(1, numberOf('BUF_SIZE', buf_size, 0, BUF_BYTES_MAX)),
    ndaemon_batch_thread: numberOf('NDAEMON_BATCH_THREAD', batch ?? '0', 0, 1_000),
    config: values.config,
    run_ms:
      values.seconds === undefined ? Number.POSITIVE_INFINITY : 1000 * numberOf('--seconds', values.seconds, 1, 86_400),
  };
  if (settings.nthread * settings.nroutine > ROUTINES_MAX) {
    throw new PhxError('CONFIG', `NTHREAD · NROUTINE must be at most ${ROUTINES_MAX}`);
  }
  return settings;
}

function numberOf(name: string, text: string | undefined, min: number, max: number): number {
  const value = Number(text);
  if (text === undefined || text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
    throw new PhxError('CONFIG', `${name} must be an integer from ${min} to ${max}, not ${text}`);
  }
  return value;
}

async function run(settings: Settings): Promise<void> {
  const { qps, nthread, nroutine, ndaemon_batch_thread, config } = settings;
  const nroutine_all = nthread * nroutine;
  const producer = new Producer({ global_config_path: config, batching: ndaemon_batch_thread > 0 });
  const gap_ms = (1000 * nroutine_all) / qps;
  print(`ndaemon_batch_thread ${ndaemon_batch_thread}`);
  print(`qps: ${qps}`);
  print(`nthread: ${nthread}`);
  print(`nroutine: ${nroutine}`);
  print(`routine_sleep_time(ms): ${Math.trunc(gap_ms)}`);
  print('start run...');

  const end = new AbortController();
  // Every routine that rests listens.
  setMaxListeners(0, end.signal);
  const stop = (): void => end.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  const end_timer = Number.isFinite(settings.run_ms) ? setTimeout(stop, settings.run_ms) : undefined;
  const report = new LatencyReport();
  let block_began_ms = performance.now();
  const printBlock = (): void => {
    const now_ms = performance.now();
    print(report.take(now_ms - block_began_ms, nroutine_all));
    block_began_ms = now_ms;
  };
  const block_timer = setInterval(printBlock, BLOCK_MS);
  const buffer = Buffer.alloc(settings.buf_size, 'a');
  const routines = Array.from({ length: nroutine_all }, () => runRoutine(producer, buffer, gap_ms, report, end.signal));
  try {
    await Promise.all(routines);
  } finally {
    clearInterval(block_timer);
    clearTimeout(end_timer);
    await producer.close();
  }
  printBlock();
}

/** One caller: waits, enqueues, and waits again, so that all callers together come to the rate. */
async function runRoutine(
  producer: Producer,
  buffer: Uint8Array,
  gap_ms: number,
  report: LatencyReport,
  signal: AbortSignal,
): Promise<void> {
  let usetime_ms = 0;
  while (!signal.aborted) {
    // Exponentially distributed gaps: arrivals that do not know of each other.
    const sleep_ms = -Math.log(1 - Math.random()) * gap_ms - usetime_ms;
    const slept_from_ms = performance.now();
    await pause(sleep_ms, signal);
    const began_ms = performance.now();
    report.recordSleep(began_ms - slept_from_ms);
    if (signal.aborted) return;
    const ret = await enqueue(producer, buffer);
    usetime_ms = performance.now() - began_ms;
    report.record(ret, usetime_ms);
  }
}

async function enqueue(producer: Producer, buffer: Uint8Array): Promise<number> {
  try {
    await producer.enqueue({ pub_id: PUB_ID, handle_id: HANDLE_ID, buffer });
    return RetCode.OK;
  } catch (error) {
    if (error instanceof EnqueueError) return error.ret;
    throw error;
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
