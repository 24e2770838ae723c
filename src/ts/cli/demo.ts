/** The demonstration: a whole deployment on loopback, a killed master, and the account of every item. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { Producer } from '../producer/producer.js';
import { nativeAvailable } from '../wal/open.js';
import { type Balance, DeliveryLedger } from './delivery_ledger.js';
import { KeyedLoad, type LoadReport } from './keyed_load.js';
import { LocalCluster } from './local_cluster.js';

const USAGE = `usage: npm run demo [-- --keep] [-- --folder FOLDER]

Starts 3 stores and 3 consumers on this machine, enqueues items of 20 keys, kills the store that leads,
and checks that every acknowledged item was consumed, in order per key.

  --keep           leave the servers running until Ctrl-C, and say what to try
  --folder FOLDER  where configuration, data and logs go (default data/demo; emptied first)
  --help           this text`;

const KEYS = 20;
const ITEMS_BEFORE = 1_000;
const ITEMS_AFTER = 2_000;
const PAUSE_MS = 20;
const SETTLE_WITHIN_MS = 20_000;
/** What shells give a program that SIGINT ended. */
const INTERRUPTED_EXIT_CODE = 130;

interface Check {
  readonly what: string;
  readonly held: boolean;
}

/** What the demonstration saw; the table is made of it. */
interface Story {
  readonly engine: string;
  readonly killed: number;
  readonly leads_now: number;
  readonly before: LoadReport;
  readonly after: LoadReport;
  readonly balance: Balance;
  readonly checks: readonly Check[];
  readonly seconds: number;
}

/** Runs the demonstration with command-line arguments; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      keep: { type: 'boolean', default: false },
      folder: { type: 'string', default: join('data', 'demo') },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  const ledger = new DeliveryLedger();
  const cluster = await prepare(values.folder, (line) => ledger.consumeLine(line));
  try {
    const story = await tell(cluster, ledger, interrupted.signal);
    if (interrupted.signal.aborted) {
      process.exitCode = INTERRUPTED_EXIT_CODE;
      return;
    }
    print(story);
    if (!story.checks.every((check) => check.held)) process.exitCode = 1;
    if (values.keep) await keep(cluster, interrupted.signal);
  } finally {
    await cluster.stop();
    say(`All servers are stopped. Logs and data remain in ${values.folder}.`);
  }
}

async function prepare(folder: string, onConsumerLine: (line: string) => void): Promise<LocalCluster> {
  await refuseForeignFolder(folder);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  return LocalCluster.prepare({ folder, onConsumerLine });
}

/** The folder is emptied, so it has to be one that the demonstration made. */
async function refuseForeignFolder(folder: string): Promise<void> {
  const names = await readdir(folder).catch((): string[] => []);
  if (names.length === 0 || (names.includes('etc') && names.includes('data') && names.includes('log'))) return;
  throw new Error(`${folder} is not empty and not of a demonstration; name another with --folder`);
}

async function tell(cluster: LocalCluster, ledger: DeliveryLedger, signal: AbortSignal): Promise<Story> {
  const began_ms = performance.now();
  say(`Starting 3 stores and 3 consumers on 127.0.0.1 (storage engine: ${engineLine()}) ...`);
  await cluster.start();
  const killed = await cluster.master();
  say(`Ready after ${seconds(began_ms)} s; store ${killed} leads.`);
  const producer = await Producer.open({ global_config_path: cluster.global_config_path });
  try {
    const before = new KeyedLoad({ producer, ledger, keys: KEYS, pause_ms: 0 });
    say(`Enqueuing ${ITEMS_BEFORE} items of ${KEYS} keys ...`);
    await before.run(ITEMS_BEFORE, signal);
    const first_settled = await ledger.settled(SETTLE_WITHIN_MS);
    say(`  ${ledger.balance().consumed} consumed.`);

    const after = new KeyedLoad({ producer, ledger, keys: KEYS, pause_ms: PAUSE_MS });
    say(`Enqueuing ${ITEMS_AFTER} more; in the middle of it store ${killed} is killed (kill -9) ...`);
    const running = after.run(ITEMS_AFTER, signal);
    await ledger.reached(ITEMS_BEFORE + ITEMS_AFTER / 4, SETTLE_WITHIN_MS);
    await cluster.stores[killed]?.kill();
    const leads_now = await cluster.master();
    say(`  store ${leads_now} leads now.`);
    await running;
    const settled = await ledger.settled(SETTLE_WITHIN_MS);
    say(`Starting store ${killed} again ...`);
    cluster.stores[killed]?.start();
    await cluster.storeReady(killed);
    say('  it is back.');

    const balance = ledger.balance();
    return {
      engine: engineLine(),
      killed,
      leads_now,
      before: before.report(),
      after: after.report(),
      balance,
      seconds: Number(seconds(began_ms)),
      checks: [
        { what: 'everything enqueued with all stores up was consumed', held: first_settled },
        { what: 'another store took over from the killed one', held: leads_now !== killed },
        { what: 'enqueuing went on', held: after.report().acknowledged === ITEMS_AFTER },
        { what: 'nothing acknowledged is missing', held: settled && balance.missing === 0 },
        { what: 'every key came in order', held: balance.out_of_order === 0 },
        { what: 'the killed store came back', held: cluster.stores[killed]?.running === true },
      ],
    };
  } finally {
    await producer.close();
  }
}

function print({ engine, killed, leads_now, before, after, balance, checks, seconds }: Story): void {
  const rows: [string, string][] = [
    ['storage engine', engine],
    ['keys', String(balance.keys)],
    ['acknowledged to the producer', String(balance.acknowledged)],
    ['  with all stores up', String(before.acknowledged)],
    ['  while the leader was killed', String(after.acknowledged)],
    ['consumed (each counted once)', String(balance.consumed)],
    ['delivered once more', String(balance.repeated)],
    ['missing', String(balance.missing)],
    ['out of order within a key', String(balance.out_of_order)],
    ['leader before and after', `store ${killed}, store ${leads_now}`],
    ['longest time without an acknowledgement', `${Math.round(after.longest_gap_ms)} ms`],
    ['tries that failed and were repeated', String(before.failed_tries + after.failed_tries)],
    ['time', `${seconds} s`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  console.log('');
  for (const [name, value] of rows) console.log(`  ${name.padEnd(width)}  ${value}`);
  console.log('');
  for (const { what, held } of checks) console.log(`  ${held ? 'ok    ' : 'FAILED'}  ${what}`);
  console.log('');
}

async function keep(cluster: LocalCluster, signal: AbortSignal): Promise<void> {
  const folder = relative(process.cwd(), cluster.folder) || '.';
  const config = join(folder, 'etc', 'globalconfig.conf');
  console.log(`The servers keep running. In another terminal, in this folder, try:

  bin/test_producer_echo_main -f ${config}
  bin/producer_benchmark_main 100 5 5 10 -f ${config}
  tail -f ${join(folder, 'log', 'consumer.*', 'consumer_main.INFO')}
  curl ${cluster.storeUrl(0, '/metrics')}
  ps -ef | grep store_main      # kill -9 one of them and enqueue again

Ctrl-C stops everything.
`);
  if (signal.aborted) return;
  // The servers are children whose pipes keep this process alive until then.
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}

function engineLine(): string {
  const { available, reason } = nativeAvailable();
  return available ? 'native' : `portable, since ${reason}`;
}

function seconds(since_ms: number): string {
  return ((performance.now() - since_ms) / 1000).toFixed(1);
}

function say(line: string): void {
  console.log(line);
}
