/**
 * `npm run bench -- enqueue`: 3 stores as processes and the producers in this one, all on this machine; acknowledged
 * items per second and the latency of an enqueue, at several numbers of concurrent producers, for each storage engine.
 * Each producer has one item on its way at a time.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LocalCluster } from '../src/ts/cli/local_cluster.js';
import { Producer } from '../src/ts/producer/producer.js';
import { nativeAvailable } from '../src/ts/wal/open.js';

const USAGE = `usage: npm run bench -- enqueue [--seconds S] [--producers N,N,...] [--engines native,portable]
                              [--bytes B] [--groups G] [--queues Q] [--json FILE]`;

const WARM_UP_MS = 1_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    producers: { type: 'string', default: '1,10,100,1000' },
    engines: { type: 'string', default: 'native,portable' },
    bytes: { type: 'string', default: '100' },
    groups: { type: 'string', default: '1' },
    queues: { type: 'string', default: '10' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

interface Row {
  readonly engine: string;
  readonly producers: number;
  readonly items_per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly failed: number;
}

if (values.help) console.log(USAGE);
else await main();

async function main(): Promise<void> {
  const measure_ms = Number(values.seconds) * 1000;
  const buffer = Buffer.alloc(Number(values.bytes), 'a');
  const rows: Row[] = [];
  console.log(`node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`);
  console.log(
    `${values.bytes}-byte items, ${values.queues} queues, ${values.groups} group(s), ${values.seconds} s each\n`,
  );
  console.log('engine    producers    items/s    p50 ms    p99 ms  failed');
  for (const engine of values.engines.split(',')) {
    if (engine !== 'native' && engine !== 'portable') throw new Error(`no such engine: ${engine}\n${USAGE}`);
    const { available, reason } = nativeAvailable();
    if (engine === 'native' && !available) {
      console.log(`native    skipped: ${reason}`);
      continue;
    }
    const folder = await mkdtemp(join(tmpdir(), 'phxqueue-bench-'));
    const options = {
      folder,
      engine,
      consumers: 0,
      groups: Number(values.groups),
      queues: Number(values.queues),
    } as const;
    const cluster = await LocalCluster.prepare(options);
    try {
      await cluster.start();
      await cluster.master();
      for (const producers of values.producers.split(',').map(Number)) {
        const row = { engine, producers, ...(await measure(cluster, producers, buffer, measure_ms)) };
        rows.push(row);
        print(row);
      }
    } finally {
      await cluster.stop();
      await rm(folder, { recursive: true, force: true });
    }
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, null, 2)}\n`);
}

async function measure(
  cluster: LocalCluster,
  producers: number,
  buffer: Uint8Array,
  measure_ms: number,
): Promise<Omit<Row, 'engine' | 'producers'>> {
  const producer = await Producer.open({ global_config_path: cluster.global_config_path });
  const measured_from_ms = performance.now() + WARM_UP_MS;
  const until_ms = measured_from_ms + measure_ms;
  const latencies_ms: number[] = [];
  let failed = 0;
  const run = async (index: number): Promise<void> => {
    const item = { topic_id: 1000, pub_id: 1, handle_id: 1, uin: BigInt(index + 1), buffer };
    for (let began_ms = performance.now(); began_ms < until_ms; ) {
      const ok = await producer.enqueue(item).then(
        () => true,
        () => false,
      );
      const ended_ms = performance.now();
      if (!ok) failed += 1;
      else if (began_ms >= measured_from_ms && ended_ms <= until_ms) latencies_ms.push(ended_ms - began_ms);
      began_ms = ended_ms;
    }
  };
  await Promise.all(Array.from({ length: producers }, (_, index) => run(index)));
  await producer.close();
  latencies_ms.sort((a, b) => a - b);
  const percentile = (share: number): number => latencies_ms[Math.floor(latencies_ms.length * share)] ?? Number.NaN;
  return {
    items_per_s: latencies_ms.length / (measure_ms / 1000),
    p50_ms: percentile(0.5),
    p99_ms: percentile(0.99),
    failed,
  };
}

function print(row: Row): void {
  const figures = [
    String(row.producers).padStart(9),
    row.items_per_s.toFixed(0).padStart(10),
    row.p50_ms.toFixed(2).padStart(9),
    row.p99_ms.toFixed(2).padStart(9),
    String(row.failed).padStart(7),
  ];
  console.log(`${row.engine.padEnd(8)}  ${figures.join(' ')}`);
}
