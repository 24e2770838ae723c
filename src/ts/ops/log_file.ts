import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { createStream, type RotatingFileStream } from 'rotating-file-stream';

/** Lines that wait for the disk, in bytes; further ones are left out. */
const PENDING_BYTES_MAX = 8 * 1024 * 1024;
/** How long after a failed write the next one is tried, in milliseconds. */
const RETRY_MS = 5_000;

export interface LogFileOptions {
  readonly dir: string;
  /** The newest file; those before it are `<name>.1` and so on. */
  readonly name: string;
  readonly file_bytes_max: number;
  readonly files_max: number;
  /** Hears of lines that were left out because the disk was full or slow, once there is room again. */
  readonly onLeftOut: (lines: number) => void;
  /** Default 5000. */
  readonly retry_ms?: number;
}

/**
 * The file that a log goes to, rotated by size. A disk that is slow, full or broken costs log lines, never memory or the
 * process: what a server promises is in another log, and that one checks its writes.
 */
export class LogFile {
  readonly #options: LogFileOptions;
  /** Null after a failure, until the next try. */
  #stream: RotatingFileStream | null = null;
  #retry_at_ms = 0;
  #left_out = 0;

  private constructor(options: LogFileOptions) {
    this.#options = options;
  }

  /** Opens the file for appending. Throws the error of the file system. */
  static async open(options: LogFileOptions): Promise<LogFile> {
    const file = new LogFile(options);
    await once(file.#openStream(), 'open');
    return file;
  }

  /** Appends a line. Never throws. */
  write(line: string): void {
    const stream = this.#stream ?? (performance.now() >= this.#retry_at_ms ? this.#openStream() : null);
    if (stream === null || stream.writableLength > PENDING_BYTES_MAX) {
      this.#left_out += 1;
      return;
    }
    const left_out = this.#left_out;
    this.#left_out = 0;
    if (left_out > 0) this.#options.onLeftOut(left_out);
    stream.write(line);
  }

  /** Writes out what waits. */
  async close(): Promise<void> {
    const stream = this.#stream;
    if (stream === null) return;
    stream.end();
    await finished(stream).catch(() => undefined);
  }

  #openStream(): RotatingFileStream {
    const { dir, name, file_bytes_max, files_max } = this.#options;
    // With `rotate` the argument is the number of the file, none for the newest.
    const stream = createStream((index: number | Date | null) => (index ? `${name}.${index}` : name), {
      path: dir,
      size: `${Math.ceil(file_bytes_max / 1024)}K`,
      rotate: files_max,
    });
    stream.on('error', (error) => {
      process.stderr.write(`${dir}/${name}: ${error.message}\n`);
      if (this.#stream === stream) this.#stream = null;
      this.#retry_at_ms = performance.now() + (this.#options.retry_ms ?? RETRY_MS);
    });
    this.#stream = stream;
    return stream;
  }
}
