/** Mistakes that a simulator has to find, as changes to compiled code: one that does not proves nothing about the code that it passes. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';

/** A change of one compiled file of src/ts; each text must be there exactly once. */
export interface Change {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Mutant {
  readonly name: string;
  readonly changes: readonly Change[];
}

/** A simulator and what it runs. */
export interface Simulator {
  /** Folder of its `run.js`. */
  readonly folder: string;
  /** Compiled folders and files that it needs. */
  readonly parts: readonly string[];
  readonly seeds_max: number;
}

const COMPILED = fileURLToPath(new URL('../..', import.meta.url));
const SOURCE = join('src', 'ts');
const FULL = process.env['PHXQUEUE_TEST_FULL'] === '1';
const TIMEOUT_MS = 5 * 60_000;

/** Makes a test of whether the mutants still apply, named `title`, and a long one for each of them. */
export function testMutants(title: string, mutants: readonly Mutant[], simulator: Simulator): void {
  const { seeds_max } = simulator;
  test(title, (t) => {
    for (const mutant of mutants) t.notThrows(() => buildMutant(mutant, simulator, folder(t)));
  });
  for (const mutant of mutants) {
    const run = FULL ? test.serial : test.serial.skip;
    run(`found: ${mutant.name}`, (t) => {
      t.timeout(TIMEOUT_MS + 10_000);
      const path = folder(t);
      buildMutant(mutant, simulator, path);
      const { status, stdout } = simulate(simulator, path);
      t.is(status, 1, `not found in ${seeds_max} seeds`);
      const found = /seed \d+ FAILED: .*/.exec(stdout);
      t.truthy(found, `it died otherwise: ${stdout}`);
      t.log(found?.[0]);
    });
  }
}

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'phxqueue-mutant-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function simulate(simulator: Simulator, path: string): { readonly status: number | null; readonly stdout: string } {
  const args = [join(path, simulator.folder, 'run.js'), '--seeds', String(simulator.seeds_max), '--bail'];
  return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: TIMEOUT_MS });
}

/** Writes simulator and program, with the mutant's changes, into `path`. Throws if a text to change is not found once. */
function buildMutant(mutant: Mutant, { folder, parts }: Simulator, path: string): void {
  for (const part of [folder, ...parts]) {
    mkdirSync(dirname(join(path, part)), { recursive: true });
    cpSync(join(COMPILED, part), join(path, part), { recursive: true });
  }
  writeFileSync(join(path, 'package.json'), '{"type":"module"}\n');
  for (const { file, from, to } of mutant.changes) {
    const changed = join(path, SOURCE, file);
    const pieces = readFileSync(changed, 'utf8').split(from);
    if (pieces.length !== 2) throw new Error(`${mutant.name}: "${from}" is ${pieces.length - 1} times in ${file}`);
    writeFileSync(changed, pieces.join(to));
  }
}
