import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { PhxError } from '../errors.js';

/** `<program>.pid` in the log folder: the process id of the server, as long as it runs. */
export class PidFile {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Writes the file. Throws PhxError CONFIG while another process of that program is named in it and lives. */
  static claim(path: string, program: string): PidFile {
    const other = readPid(path);
    if (other !== null && other !== process.pid && runs(other, program)) {
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

/** The number may belong to an unrelated process by now; where /proc tells, its command line decides. */
function runs(pid: number, program: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(program);
  } catch {
    return true;
  }
}
