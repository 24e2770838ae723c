import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import JSON5 from 'json5';
import { type Place, type Reporter, runtimeReporter } from './report.js';

/** Longest configuration file that is read, in bytes. */
export const CONFIG_FILE_BYTES_MAX = 16 * 1024 * 1024;

/** Where files are looked for and who hears about problems. */
export interface LoadOptions {
  /** Folder that relative paths start from; by default the working directory of the process. */
  readonly base?: string;
  /** Takes each warning as one line. */
  readonly onWarning?: (line: string) => void;
}

/** The reporter of a program that runs; see `runtimeReporter`. */
export function reporterOf(options: LoadOptions): Reporter {
  return runtimeReporter(options.onWarning ?? (() => undefined));
}

/** Reads a configuration file. Null if that failed and the reporter did not throw. `named_at`: what names the file. */
export function readTextFile(
  file: string,
  base: string | undefined,
  report: Reporter,
  named_at?: Place,
): string | null {
  const path = resolve(base ?? '.', file);
  try {
    const { size } = statSync(path);
    if (size > CONFIG_FILE_BYTES_MAX) {
      report.error({ file, key: '' }, `is ${size} bytes long`, `${CONFIG_FILE_BYTES_MAX} are allowed`);
      return null;
    }
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    if (reason === 'ENOENT') reportMissing(file, path, report, named_at);
    else report.error({ file, key: '' }, `cannot be read (${reason})`, 'make it a readable file');
    return null;
  }
}

function reportMissing(file: string, path: string, report: Reporter, named_at: Place | undefined): void {
  if (named_at === undefined) report.error({ file, key: '' }, 'no such file', `create ${path} or give another path`);
  else {
    const fix = `create ${path} or correct the path`;
    report.error(named_at, `names ${JSON.stringify(file)}, but there is no such file`, fix);
  }
}

/**
 * Reads a JSON file that may have trailing commas and comments, as the samples do. Undefined if that failed and the
 * reporter did not throw.
 */
export function readJsonFile(file: string, base: string | undefined, report: Reporter, named_at?: Place): unknown {
  const content = readTextFile(file, base, report, named_at);
  if (content === null) return undefined;
  try {
    return JSON5.parse<unknown>(content);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message.replace(/^JSON5: /, '') : String(cause);
    report.error({ file, key: '' }, `is no JSON: ${what}`, 'correct the syntax there');
    return undefined;
  }
}
