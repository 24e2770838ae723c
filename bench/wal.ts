/**
 * `npm run bench -- wal`: appends to one log on this machine's disk, without network and Paxos; durable records per second
 * and the time from append to `done`. `batch` is how many appends of one record each are handed over in one turn; the
 * next turn begins when the last of them is durable. Then the time to open a filled log, and to read it by ranges.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type LogEngine, RecordKind } from '../src/ts/wal/engine.js';
import { nativeAvailable, openLog } from '../src/ts/wal/open.js';

const USAGE = `usage: npm run bench -- wal [--seconds S] [--engines native,portable] [--bytes B,B,...] [--batches N,N,...]
                          [--fill_mib M] [--folder FOLDER] [--json FILE]`;

const identity = new Uint8Array(16);
const WARM_UP_MS = 300;
const RANGE_ENTRIES = 50;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2' },
    engines: { type: 'string', default: 'native,portable' },
    bytes: { type: 'string', default: '100,4096' },
    batches: { type: 'string', default: '1,16,256' },
    fill_mib: { type: 'string', default: '256' },
    folder: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

interface AppendRow {
  readonly engine: string;
  readonly bytes: number;
  readonly batch: number;
  readonly records_per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly loop_us: number;
}

interface ReadRow {
  readonly engine: string;
  readonly fill_mib: number;
  readonly open_ms: number;
  readonly range_us: number;
  readonly index_bytes: number;
}

if (values.help) console.log(USAGE);
else await main();

async function main(): Promise<void> {
  const engines = values.engines.split(',').filter(isUsable);
  console.log(
    `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, ${values.folder}`,
  );
  console.log('\nengine     bytes  batch    records/s    p50 ms    p99 ms  loop µs/record');
  const appends: AppendRow[] = [];
  for (const bytes of numbers(values.bytes)) {
    for (const batch of numbers(values.batches)) {
      for (const engine of engines) {
        const row = await inFolder((folder) => measureAppends(engine, folder, bytes, batch));
        appends.push(row);
        console.log(appendLine(row));
      }
    }
  }
  console.log(`\nengine     MiB   open ms  µs per range of ${RANGE_ENTRIES} × 1 KiB   index MiB`);
  const reads: ReadRow[] = [];
  for (const engine of engines) {
    const row = await inFolder((folder) => measureReads(engine, folder, Number(values.fill_mib)));
    reads.push(row);
    console.log(readLine(row));
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ appends, reads }, null, 2)}\n`);
}

function isUsable(engine: string): engine is LogEngine['engine'] {
  if (engine === 'portable') return true;
  if (engine !== 'native') throw new Error(`no such engine: ${engine}\n${USAGE}`);
  const { available, reason } = nativeAvailable();
  if (!available) console.log(`native    skipped: ${reason}`);
  return available;
}

async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const parent = await mkdtemp(join(values.folder, 'phxqueue-bench-'));
  try {
    return await use(join(parent, 'log'));
  } finally {
    await rm(parent, { recursive: true });
  }
}

async function measureAppends(
  engine: LogEngine['engine'],
  folder: string,
  bytes: number,
  batch: number,
): Promise<AppendRow> {
  const log = await openLog({ engine, folder, identity });
  const body = [Buffer.alloc(bytes, 'a')];
  const latencies_ms: number[] = [];
  let instance = 0;
  const turn = (measured: boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      let waiting = batch;
      const began_ms = performance.now();
      for (let number = 0; number < batch; number++) {
        log.append([{ kind: RecordKind.entry, group: 1, instance: ++instance, body }], (error) => {
          if (error !== null) reject(error);
          if (measured) latencies_ms.push(performance.now() - began_ms);
          if (--waiting === 0) resolve();
        });
      }
    });
  const warm_ms = performance.now() + WARM_UP_MS;
  while (performance.now() < warm_ms) await turn(false);
  const start_ms = performance.now();
  const end_ms = start_ms + Number(values.seconds) * 1000;
  const loop = performance.eventLoopUtilization();
  while (performance.now() < end_ms) await turn(true);
  const busy_ms = performance.eventLoopUtilization(loop).active;
  const elapsed_s = (performance.now() - start_ms) / 1000;
  await log.close();
  latencies_ms.sort((a, b) => a - b);
  return {
    engine,
    bytes,
    batch,
    records_per_s: latencies_ms.length / elapsed_s,
    p50_ms: quantile(latencies_ms, 0.5),
    p99_ms: quantile(latencies_ms, 0.99),
    loop_us: (busy_ms * 1000) / latencies_ms.length,
  };
}

async function measureReads(engine: LogEngine['engine'], folder: string, fill_mib: number): Promise<ReadRow> {
  const records = fill_mib * 1024;
  const filling = await openLog({ engine, folder, identity, sync: false });
  const body = [Buffer.alloc(1024, 'a')];
  for (let instance = 1; instance <= records; ) {
    const appended: Promise<void>[] = [];
    for (let number = 0; number < 1024 && instance <= records; number++, instance++) {
      const record = { kind: RecordKind.entry, group: 1, instance, body };
      const durable = new Promise<void>((resolve, reject) => {
        filling.append([record], (error) => (error === null ? resolve() : reject(error)));
      });
      appended.push(durable);
    }
    await Promise.all(appended);
  }
  await filling.close();
  const log = await openLog({ engine, folder, identity });
  const ranges = Math.min(2000, Math.floor(records / RANGE_ENTRIES));
  const start_ms = performance.now();
  for (let range = 0; range < ranges; range++) {
    const from = 1 + ((range * 7919) % (records - RANGE_ENTRIES));
    await log.readRange(1, from, from + RANGE_ENTRIES - 1, Number.MAX_SAFE_INTEGER);
  }
  const range_us = ((performance.now() - start_ms) * 1000) / ranges;
  const { index_bytes } = log.stats();
  await log.close();
  return { engine, fill_mib, open_ms: log.recovery.elapsed_ms, range_us, index_bytes };
}

function numbers(list: string): number[] {
  return list.split(',').map(Number);
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function appendLine({ engine, bytes, batch, records_per_s, p50_ms, p99_ms, loop_us }: AppendRow): string {
  const head = `${engine.padEnd(9)}${String(bytes).padStart(7)}${String(batch).padStart(7)}`;
  const rate = Math.round(records_per_s).toLocaleString('en-US').padStart(13);
  return `${head}${rate}${p50_ms.toFixed(3).padStart(10)}${p99_ms.toFixed(3).padStart(10)}${loop_us.toFixed(2).padStart(16)}`;
}

function readLine({ engine, fill_mib, open_ms, range_us, index_bytes }: ReadRow): string {
  const head = `${engine.padEnd(9)}${String(fill_mib).padStart(5)}${open_ms.toFixed(0).padStart(10)}`;
  return `${head}${range_us.toFixed(1).padStart(31)}${(index_bytes / 2 ** 20).toFixed(1).padStart(12)}`;
}
