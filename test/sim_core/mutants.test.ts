/** Does the simulator bite? Each mutant of the core must be found. That they still apply is checked in every run. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { buildMutant, MUTANTS } from './mutants.js';

const FULL = process.env['PHXQUEUE_TEST_FULL'] === '1';
const SEEDS_MAX = 2_000;
const TIMEOUT_MS = 5 * 60_000;

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'phxqueue-mutant-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function simulate(path: string): ReturnType<typeof spawnSync> {
  const args = [join(path, 'test', 'sim_core', 'run.js'), '--seeds', String(SEEDS_MAX), '--bail'];
  return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: TIMEOUT_MS });
}

test('every mutant applies to the core as it is', (t) => {
  for (const mutant of MUTANTS) t.notThrows(() => buildMutant(mutant, folder(t)));
});

for (const mutant of MUTANTS) {
  const run = FULL ? test.serial : test.serial.skip;
  run(`found: ${mutant.name}`, (t) => {
    t.timeout(TIMEOUT_MS + 10_000);
    const path = folder(t);
    buildMutant(mutant, path);
    const { status, stdout } = simulate(path);
    t.is(status, 1, `not found in ${SEEDS_MAX} seeds`);
    const found = /seed \d+ FAILED: .*/.exec(String(stdout));
    t.truthy(found, `it died otherwise: ${stdout}`);
    t.log(found?.[0]);
  });
}
