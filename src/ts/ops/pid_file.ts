import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { PhxError } from '../errors.js';

/** `<program>.pid` in the log folder: the process id of the server, as long as it runs. */
export class PidFile {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Writes the file. Throws PhxError CONFIG while another process of that program, started with that configuration
   * file, is named in it and lives.
   */
  static claim(path: string, program: string, conf: string): PidFile {
    const other = readPid(path);
    if (other !== null && other !== process.pid && runs(other, [program, basename(conf)])) {
      throw new PhxError(
        'CONFIG',
        `${program} runs already, as process ${other} (${path}); stop it first: kill ${other}`,
      );
    }
    writeFileSync(path, `${process.pid}\n`);
    return new PidFile(path);
  }

  /** Removes the file, unless another process has taken it over. */
  release(): void {
    if (readPid(this.#path) === process.pid) rmSync(this.#path, { force: true });
  }
}

function readPid(path: string): number | null {
  try {
    const pid = Number(readFileSync(path, 'utf8').trim());
    return Number.isInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}

/**
 * The number may belong to another process by now: after a power cut, servers that start together easily get each
 * other's. Where /proc tells, the words of its command line decide.
 */
function runs(pid: number, words: readonly string[]): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
  try {
    const command_line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return words.every((word) => command_line.includes(word));
  } catch {
    return true;
  }
}
