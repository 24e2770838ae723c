// `npm test [-- --full]`: installs, builds, runs all tests; the last line is `N passed, N failed`.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from './build.mjs';
import { missingToolchain } from './build_native.mjs';
import { install } from './install.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const full = process.argv.includes('--full');
const test_env = { ...process.env, ...(full ? { PHXQUEUE_TEST_FULL: '1' } : {}) };

install(root);
// Tests that were renamed or removed must not run on.
rmSync(join(root, 'dist', 'test'), { recursive: true, force: true });
await build();
const results = [await lint(), await ava(), await cargo()];
const sum = (kind) => results.reduce((total, result) => total + result[kind], 0);
process.exitCode = sum('failed') === 0 ? 0 : 1;
console.log(`${sum('passed')} passed, ${sum('failed')} failed`);

async function lint() {
  console.log('\n== lint');
  const { status } = await run(process.execPath, [bin('@biomejs', 'biome', 'bin', 'biome'), 'check', '.']);
  return status === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

async function ava() {
  console.log(`\n== TypeScript${full ? ', with the long campaigns' : ''}`);
  const { status, output } = await run(process.execPath, [bin('ava', 'entrypoints', 'cli.mjs')], test_env);
  const count = (mark) => output.match(new RegExp(`^ +${mark} `, 'gm'))?.length ?? 0;
  const failed = count('✘');
  // A file that does not load, or a crash, fails without a failed test.
  return { passed: count('✔'), failed: status !== 0 && failed === 0 ? 1 : failed };
}

async function cargo() {
  console.log('\n== Rust');
  const reason = missingToolchain();
  if (reason !== null) {
    console.log(`skipped: ${reason}`);
    return { passed: 0, failed: 0 };
  }
  const { status, output } = await run('cargo', ['test', '--locked', '--quiet', '--workspace'], test_env);
  let passed = 0;
  let failed = 0;
  for (const [, ok, bad] of output.matchAll(/(\d+) passed; (\d+) failed/g)) {
    passed += Number(ok);
    failed += Number(bad);
  }
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed };
}

function bin(...parts) {
  return join(root, 'node_modules', ...parts);
}

/** Runs a program; shows its output, and returns it. */
function run(command, args, env = process.env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        process.stdout.write(text);
      });
    }
    child.once('error', (error) => resolve({ status: -1, output: error.message }));
    child.once('close', (status) => resolve({ status, output }));
  });
}
