import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type LogOptions, openLogger } from '../../src/ts/ops/logger.js';

function options(t: ExecutionContext, change: Partial<LogOptions> = {}): LogOptions {
  const dir = mkdtempSync(join(tmpdir(), 'phxqueue-log-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return { dir, program: 'p_main', level: 0, json: false, file_bytes_max: 1 << 20, files_max: 3, ...change };
}

test('lines are readable and carry the message as it is', async (t) => {
  const settings = options(t, { dir: join(options(t).dir, 'made', 'for', 'it') });
  const { logger, path, close } = await openLogger(settings);
  logger.info('Dequeue ret 0 topic 1000');
  logger.warn('careful');
  logger.error('Propose err. paxos_ret 404');
  logger.fatal('the end');
  await close();
  t.is(path, join(settings.dir, 'p_main.INFO'));
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  t.regex(lines[0] ?? '', /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] INFO: Dequeue ret 0 topic 1000$/);
  t.deepEqual(
    lines.slice(1).map((line) => line.replace(/^\[[^\]]*\] /, '')),
    ['WARNING: careful', 'ERR: Propose err. paxos_ret 404', 'FATAL: the end'],
  );
});

test('what is below the level is not written', async (t) => {
  const { logger, path, close } = await openLogger(options(t, { level: 2 }));
  logger.info('no');
  logger.warn('no');
  logger.error('yes');
  await close();
  t.regex(readFileSync(path, 'utf8'), /^\[[^\]]*\] ERR: yes\n$/);
});

test('a setting makes it JSON lines', async (t) => {
  const { logger, path, close } = await openLogger(options(t, { json: true }));
  logger.info({ queue_id: 7 }, 'text');
  await close();
  const line: unknown = JSON.parse(readFileSync(path, 'utf8'));
  t.like(line, { level: 30, pid: process.pid, queue_id: 7, msg: 'text' });
});

test('files are rotated by size, and their number is bounded', async (t) => {
  const settings = options(t, { file_bytes_max: 4096, files_max: 2 });
  for (let run = 0; run < 8; run += 1) {
    const { logger, close } = await openLogger(settings);
    for (let line = 0; line < 100; line += 1) logger.info(`run ${run} line ${line} ${'x'.repeat(40)}`);
    await close();
  }
  const files = readdirSync(settings.dir).sort();
  t.true(files.includes('p_main.INFO') && files.includes('p_main.INFO.1'), files.join(' '));
  t.true(files.length <= 3, files.join(' '));
});

test('a log that cannot be written is a clear error', async (t) => {
  const settings = options(t);
  writeFileSync(join(settings.dir, 'file'), '');
  const error = await t.throwsAsync(openLogger({ ...settings, dir: join(settings.dir, 'file', 'below') }), {
    code: 'CONFIG',
  });
  t.regex(error.message, /cannot be written: .*; change the log folder or its rights$/);
});
