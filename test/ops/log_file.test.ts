import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { LogFile, type LogFileOptions } from '../../src/ts/ops/log_file.js';

interface Opened {
  readonly file: LogFile;
  readonly path: string;
  readonly left_out: number[];
}

async function open(t: ExecutionContext, change: Partial<LogFileOptions> = {}): Promise<Opened> {
  const dir = mkdtempSync(join(tmpdir(), 'phxqueue-log-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const left_out: number[] = [];
  const file = await LogFile.open({
    dir,
    name: 'p_main.INFO',
    file_bytes_max: 1 << 30,
    files_max: 2,
    onLeftOut: (lines) => left_out.push(lines),
    ...change,
  });
  return { file, path: join(dir, 'p_main.INFO'), left_out };
}

test('lines are appended', async (t) => {
  const { file, path } = await open(t);
  file.write('one\n');
  file.write('two\n');
  await file.close();
  t.is(readFileSync(path, 'utf8'), 'one\ntwo\n');
});

test('a disk that cannot keep up costs lines, which are counted', async (t) => {
  const { file, path, left_out } = await open(t);
  const line = `${'x'.repeat(1024 * 1024 - 1)}\n`;
  for (let lines = 0; lines < 20; lines += 1) file.write(line);
  t.deepEqual(left_out, []);
  while (left_out.length === 0) {
    await turn();
    file.write('');
  }
  await file.close();
  const written = readFileSync(path).length / line.length;
  // The lines before 8 MiB wait, and the one that goes beyond.
  t.is(written, 9);
  t.true((left_out[0] ?? 0) >= 11);
});

test('after a failure the file is opened again', async (t) => {
  const { file, path } = await open(t, { file_bytes_max: 1024, retry_ms: 0 });
  // The file cannot be moved out of the way.
  mkdirSync(`${path}.1`);
  writeFileSync(join(`${path}.1`, 'obstacle'), '');
  mkdirSync(`${path}.2`);
  writeFileSync(join(`${path}.2`, 'obstacle'), '');
  file.write(`${'x'.repeat(2000)}\n`);
  for (let turns = 0; turns < 1000; turns += 1) await turn();
  rmSync(`${path}.1`, { recursive: true });
  rmSync(`${path}.2`, { recursive: true });
  let found = '';
  while (!found.includes('again')) {
    file.write('again\n');
    await turn();
    found = textOf(path);
  }
  await file.close();
  t.regex(found, /^again$/m);
});

/** Nothing while the file is being moved out of the way. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}
