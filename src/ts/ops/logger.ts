/**
 * Logs: `<program>.INFO` in the log folder, readable lines or JSON, rotated by size. A readable line is
 * `[2026-11-24 12:00:00.123] INFO: message`.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import pino from 'pino';
import pretty from 'pino-pretty';
import { PhxError } from '../errors.js';
import { LogFile } from './log_file.js';

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
  let file: LogFile;
  try {
    await mkdir(dir, { recursive: true });
    const onLeftOut = (lines: number): void => logger.warn(`${lines} lines left out: the disk was full or slow`);
    file = await LogFile.open({ ...options, name, onLeftOut });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const what = `the log ${path} cannot be written: ${reason}; change the log folder or its rights`;
    throw new PhxError('CONFIG', what, { cause });
  }
  const prettify = pretty.prettyFactory({
    colorize: false,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    ignore: 'pid,hostname',
    customPrettifiers: { level: (level) => LABELS[String(level)] ?? String(level) },
  });
  const readable = { write: (line: string) => file.write(prettify(line)) };
  const level = LEVELS[options.level] ?? 'info';
  const logger = pino({ level, base: { pid: process.pid } }, options.json ? file : readable);
  return { logger, path, close: () => file.close() };
}
