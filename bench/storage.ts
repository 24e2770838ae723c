/**
 * `npm run bench -- storage`: the two log engines side by side on this machine's disk, without network and Paxos, with
 * what the disk itself can do measured in the same run. docs/performance.md says what the figures mean.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { runAdd } from './storage/add.js';
import { runAppends } from './storage/appends.js';
import { runFilledLog } from './storage/filled_log.js';
import { runMemory } from './storage/memory.js';
import { type Options, readOptions, USAGE } from './storage/options.js';
import { endProgress } from './storage/report.js';

const SCHEMA_VERSION = 1;

await main();

async function main(): Promise<void> {
  let options: Options;
  try {
    options = readOptions();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    process.exitCode = 1;
    return;
  }
  if (options.help) console.log(USAGE);
  else await run(options);
}

async function run(options: Options): Promise<void> {
  const machine = {
    node: process.version,
    processors: cpus().length,
    processor: cpus()[0]?.model ?? 'unknown',
    folder: options.folder,
  };
  console.log(
    `node ${machine.node}, ${machine.processors} × ${machine.processor}, ${machine.folder}; ` +
      `median of ${options.rounds} × ${options.seconds} s`,
  );
  if (options.skipped !== '') console.log(`native skipped: ${options.skipped}`);
  const { engines, seconds, rounds, skipped } = options;
  const report: Record<string, unknown> = { version: SCHEMA_VERSION, machine, engines, seconds, rounds, skipped };
  const { only } = options;
  if (only.includes('appends')) report['appends'] = await inFolder(options, (folder) => runAppends(options, folder));
  if (only.includes('add')) report['add'] = await inFolder(options, (folder) => runAdd(options, folder));
  if (only.includes('reads') || only.includes('recovery')) {
    Object.assign(report, await inFolder(options, (folder) => runFilledLog(options, folder)));
  }
  if (only.includes('memory')) report['memory'] = await inFolder(options, (folder) => runMemory(options, folder));
  endProgress();
  if (options.json !== null) await writeFile(options.json, `${JSON.stringify(report, null, 2)}\n`);
}

async function inFolder<T>(options: Options, use: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(options.folder, { recursive: true });
  const folder = await mkdtemp(join(options.folder, 'phxqueue-bench-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
