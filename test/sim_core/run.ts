/**
 * `npm run sim:core -- --seeds 500 [--from FIRST]` runs many seeds, until the first failure with `--bail`; `--seed N [--trace]`
 * runs one. Exit 0 only without failures.
 */
import { parseArgs } from 'node:util';
import { Simulation } from './simulation.js';

const USAGE = `usage: npm run sim:core -- [--seeds COUNT] [--from FIRST] [--seconds S] [--bail]
       npm run sim:core -- --seed N [--trace] [--seconds S]`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    bail: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  console.log(USAGE);
} else {
  process.exitCode = main() ? 0 : 1;
}

function main(): boolean {
  const one = values.seed !== undefined;
  const from = whole(one ? values.seed : values.from);
  const count = one ? 1 : whole(values.seeds);
  const faults_ms = whole(values.seconds) * 1000;
  const began = performance.now();
  const reached = new Map<string, number>();
  let failed = 0;
  let acknowledged = 0;
  for (let seed = from; seed < from + count; seed += 1) {
    const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
    try {
      const result = new Simulation({ seed, faults_ms, ...trace }).run();
      acknowledged += result.acknowledged;
      for (const [name, times] of result.reached) reached.set(name, (reached.get(name) ?? 0) + times);
    } catch (error) {
      failed += 1;
      console.log(`seed ${seed} FAILED: ${error instanceof Error ? error.message : String(error)}`);
      console.log(`  replay: npm run sim:core -- --seed ${seed} --seconds ${faults_ms / 1000} --trace`);
      if (values.bail) return false;
    }
    if ((seed - from + 1) % 50 === 0) console.log(`${seed - from + 1} of ${count} seeds, ${failed} failed`);
  }
  const seconds = (performance.now() - began) / 1000;
  const simulated_h = (count * faults_ms) / 3_600_000;
  console.log(
    `${count} seeds from ${from}: ${failed} failed; ${acknowledged} acknowledged, ` +
      `${simulated_h.toFixed(2)} simulated hours in ${seconds.toFixed(1)} s`,
  );
  for (const [name, times] of [...reached].sort()) console.log(`  ${String(times).padStart(8)} × ${name}`);
  return failed === 0;
}

function whole(text: string | undefined): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) {
    console.error(`not a whole number: ${text}\n${USAGE}`);
    process.exit(1);
  }
  return number;
}
