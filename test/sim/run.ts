/**
 * `npm run sim -- --seeds 500 [--from FIRST]` runs many seeds on all cores, until the first failure with `--bail`;
 * `--seed N [--trace]` runs one. Exit 0 only without failures.
 */
import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { runCampaign } from './campaign.js';
import { neverReached, SEEDS_TO_REACH_ALL } from './rare_paths.js';
import { Simulation } from './simulation.js';

const USAGE = `usage: npm run sim -- [--seeds COUNT] [--from FIRST] [--seconds S] [--processes P] [--bail]
       npm run sim -- --seed N [--trace] [--seconds S]`;
const PROGRESS_EVERY = 50;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    processes: { type: 'string', default: String(availableParallelism()) },
    bail: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const faults_ms = whole(values.seconds) * 1000;

if (values.help) {
  console.log(USAGE);
} else {
  const sound = values.seed === undefined ? await many() : await one(whole(values.seed));
  process.exitCode = sound ? 0 : 1;
}

async function one(seed: number): Promise<boolean> {
  const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
  const began = performance.now();
  try {
    const result = await new Simulation({ seed, faults_ms, ...trace }).run();
    printReached(result.reached);
    console.log(
      `seed ${seed}: ${result.acknowledged} of ${result.proposed} proposals acknowledged, ${result.events} events in ` +
        `${((performance.now() - began) / 1000).toFixed(1)} s, trace ${result.trace_hash.slice(0, 16)}`,
    );
    return true;
  } catch (error) {
    console.log(error);
    sayFailure(seed, error instanceof Error ? error.message : String(error));
    return false;
  }
}

async function many(): Promise<boolean> {
  const [from, count] = [whole(values.from), whole(values.seeds)];
  const began = performance.now();
  const { bail } = values;
  const result = await runCampaign({
    from,
    count,
    faults_ms,
    processes: whole(values.processes),
    bail,
    onFailure: sayFailure,
    onProgress: (done, failed) => {
      if (done % PROGRESS_EVERY === 0) console.log(`${done} of ${count} seeds, ${failed} failed`);
    },
  });
  const seconds = (performance.now() - began) / 1000;
  printReached(result.reached);
  const missing = count >= SEEDS_TO_REACH_ALL && result.failed === 0 ? neverReached(result.reached) : [];
  for (const name of missing) console.log(`never reached: ${name}`);
  console.log(
    `${result.seeds} seeds from ${from}: ${result.failed} failed, ${result.replayed} replayed; ` +
      `${result.acknowledged} acknowledged, ${(result.simulated_ms / 3_600_000).toFixed(2)} simulated hours in ` +
      `${seconds.toFixed(1)} s, ${Math.round(result.events / seconds)} events/s`,
  );
  return result.failed === 0 && missing.length === 0;
}

function sayFailure(seed: number, what: string): void {
  console.log(`seed ${seed} FAILED: ${what}`);
  console.log(`  commit ${commit()}; replay: npm run sim -- --seed ${seed} --seconds ${faults_ms / 1000} --trace`);
}

function printReached(reached: ReadonlyMap<string, number>): void {
  for (const [name, times] of [...reached].sort()) console.log(`  ${String(times).padStart(8)} × ${name}`);
}

function commit(): string {
  try {
    const args = ['describe', '--always', '--dirty', '--abbrev=12'];
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}

function whole(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) {
    console.error(`not a whole number: ${text}\n${USAGE}`);
    process.exit(1);
  }
  return number;
}
