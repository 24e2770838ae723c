// Builds the native log engine (crates/wal) into native/, unless what is there was built from the same sources.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const native = join(root, 'native');
const RUST_MINIMUM = [1, 88];
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'crates/wal/Cargo.toml', 'crates/wal/build.rs', 'crates/wal/src'];
const OUTPUT = ['index.js', 'index.d.ts'];
/** In native/: what the addon there was built from. */
const STAMP = 'built_from';

/**
 * Builds the addon. Where that is impossible it says why in one line and returns false, or throws if it is required.
 *
 * @param {{required?: boolean, log?: (line: string) => void}} options
 * @returns {boolean} whether native/ holds a current addon
 */
export function buildNative({ required = false, log = console.log } = {}) {
  const stamp = sourceStamp();
  if (stamp === builtStamp()) return true;
  const reason = missingToolchain() ?? compile(stamp);
  if (reason === null) return true;
  if (required) throw new Error(`native log engine: ${reason}`);
  log(`native log engine not built, the portable one is used: ${reason}`);
  return false;
}

/** Why there is no usable Rust, or null. */
export function missingToolchain() {
  for (const tool of ['cargo', 'rustc']) {
    const { status, stdout } = run(tool, ['--version']);
    if (status !== 0) return `${tool} is not installed (Rust ${RUST_MINIMUM.join('.')} or newer builds it)`;
    const [major, minor] = /(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number) ?? [0, 0];
    const fits = major > RUST_MINIMUM[0] || (major === RUST_MINIMUM[0] && minor >= RUST_MINIMUM[1]);
    if (!fits) return `${tool} is ${major}.${minor}, older than ${RUST_MINIMUM.join('.')}`;
  }
  return null;
}

/** Why the addon does not compile, or null. */
function compile(stamp) {
  const built = join(root, 'target', 'native');
  const paths = ['--manifest-path', 'crates/wal/Cargo.toml', '--package-json-path', 'package.json'];
  const output = ['--output-dir', built, '--js', OUTPUT[0], '--dts', OUTPUT[1]];
  const cli = join(root, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js');
  const args = ['build', '--platform', '--release', ...paths, ...output, '--', '--locked'];
  const { status, stdout, stderr } = run(process.execPath, [cli, ...args]);
  if (status !== 0) return `its build failed: ${firstError(`${stderr}\n${stdout}`)}`;
  install(built, native);
  writeFileSync(join(native, STAMP), stamp);
  return null;
}

/** Names the sources, the compiler and the platform. */
function sourceStamp() {
  const hash = createHash('sha256');
  hash.update(`${process.platform} ${process.arch} ${run('rustc', ['--version']).stdout ?? ''}`);
  for (const source of SOURCES) {
    const path = join(root, source);
    const files = statSync(path).isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [path];
    for (const file of files.sort()) hash.update(`\0${file}\0`).update(readFileSync(file));
  }
  return hash.digest('hex');
}

function builtStamp() {
  try {
    return readFileSync(join(native, STAMP), 'utf8');
  } catch {
    return null;
  }
}

/** By renaming: a process that has the old addon mapped keeps it. */
function install(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (sameBytes(join(from, name), join(to, name))) continue;
    copyFileSync(join(from, name), join(to, `${name}.new`));
    renameSync(join(to, `${name}.new`), join(to, name));
  }
  // The package is ESM; the generated loader is CommonJS.
  writeFileSync(join(to, 'package.json'), '{ "type": "commonjs" }\n');
}

function sameBytes(one, other) {
  try {
    return readFileSync(one).equals(readFileSync(other));
  } catch {
    return false;
  }
}

function firstError(output) {
  const lines = output.split('\n').map((line) => line.trim());
  return lines.find((line) => /^error/i.test(line)) ?? lines.find((line) => line !== '') ?? 'no message';
}

function run(command, args) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) buildNative({ required: process.argv.includes('--required') });
