/** Where the program's lines go: in chunks, waiting for the reader, quiet when the reader has gone. */
import type { Writable } from 'node:stream';

const CHUNK_CHARS = 64 * 1024;

export class Output {
  private readonly stream: Writable;
  private pending = '';
  private gone = false;
  private failure: Error | null = null;

  constructor(stream: Writable) {
    this.stream = stream;
    stream.on('error', this.noteError);
  }

  /** Nobody reads any more: the program may end. */
  get closed(): boolean {
    return this.gone;
  }

  /** Takes text; null if there is room for more at once, else a promise of it. Rejects with an error of the stream. */
  put(text: string): Promise<void> | null {
    this.pending += text;
    return this.pending.length < CHUNK_CHARS ? null : this.flush();
  }

  async line(text: string): Promise<void> {
    await this.put(`${text}\n`);
  }

  async flush(): Promise<void> {
    const text = this.pending;
    this.pending = '';
    if (text === '' || this.gone) return;
    await new Promise<void>((resolve) => {
      this.stream.write(text, (error) => {
        if (error) this.noteError(error);
        resolve();
      });
    });
    if (this.failure !== null) throw this.failure;
  }

  private readonly noteError = (error: Error): void => {
    const quiet = 'code' in error && (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED');
    if (!quiet) this.failure = error;
    this.gone = true;
  };
}
