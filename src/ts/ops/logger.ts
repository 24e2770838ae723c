/**
 * Logs: `<program>.INFO` in the log folder, readable lines or JSON, rotated by size. A readable line is
 * `[2026-11-24 12:00:00.123] INFO: message`.
 */
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import pino from 'pino';
import pretty from 'pino-pretty';
import { createStream } from 'rotating-file-stream';
import { PhxError } from '../errors.js';

/** Labels of pino's levels, as the original writes them. */
const LABELS: Readonly<Record<string, string>> = {
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARNING',
  50: 'ERR',
  60: 'FATAL',
};
/** Levels of the configuration: 0 info, 1 warning, 2 error, 3 fatal. */
const LEVELS = ['info', 'warn', 'error', 'fatal'] as const;

export type Logger = pino.Logger;

export interface LogOptions {
  readonly dir: string;
  /** Name of the program: `<program>.INFO` is the newest file, `<program>.INFO.1` the one before. */
  readonly program: string;
  /** 0 info, 1 warning, 2 error, 3 fatal; what is below is not written. */
  readonly level: number;
  /** JSON lines in place of readable ones. */
  readonly json: boolean;
  readonly file_bytes_max: number;
  readonly files_max: number;
}

export interface OpenLog {
  readonly logger: Logger;
  /** Path of the newest file. */
  readonly path: string;
  /** Writes out what is pending. */
  close(): Promise<void>;
}

/** Opens the log, making its folder if it is missing. Throws PhxError CONFIG if it cannot be written. */
export async function openLogger(options: LogOptions): Promise<OpenLog> {
  const { dir, program } = options;
  const name = `${program}.INFO`;
  const path = join(dir, name);
  try {
    await mkdir(dir, { recursive: true });
  } catch (cause) {
    throw unwritable(path, cause);
  }
  // With `rotate` the argument is the number of the file, none for the newest.
  const file = createStream((index: number | Date | null) => (index ? `${name}.${index}` : name), {
    path: dir,
    size: `${Math.ceil(options.file_bytes_max / 1024)}K`,
    rotate: options.files_max,
  });
  try {
    await once(file, 'open');
  } catch (cause) {
    throw unwritable(path, cause);
  }
  const readable = pretty({
    colorize: false,
    sync: true,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    ignore: 'pid,hostname',
    customPrettifiers: { level: (level) => LABELS[String(level)] ?? String(level) },
    destination: file,
  });
  const level = LEVELS[options.level] ?? 'info';
  const logger = pino({ level, base: { pid: process.pid } }, options.json ? file : readable);
  // A disk that is full must not stop the server: what it promises is in its own log, and that one checks its writes.
  file.on('error', (error) => process.stderr.write(`${path}: ${error.message}\n`));
  return {
    logger,
    path,
    close: async () => {
      file.end();
      await finished(file).catch(() => undefined);
    },
  };
}

function unwritable(path: string, cause: unknown): PhxError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new PhxError('CONFIG', `the log ${path} cannot be written: ${reason}; change the log folder or its rights`, {
    cause,
  });
}
