import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PhxError } from '../errors.js';

/** Why an item left its retry chain, with all that is needed to enqueue it again by hand. One JSON line each. */
export interface DeadLetter {
  readonly reason: string;
  readonly ret: number;
  readonly topic_id: number;
  readonly consumer_group_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly cursor_id: bigint;
  readonly pub_id: number;
  readonly handle_id: number;
  readonly uin: bigint;
  /** How often it was enqueued again. */
  readonly count: number;
  readonly client_id: string;
  readonly buffer_type: number;
  readonly buffer: Uint8Array;
}

function toLine(letter: DeadLetter): string {
  const { buffer, cursor_id, uin, ...plain } = letter;
  return `${JSON.stringify({
    time: new Date().toISOString(),
    ...plain,
    uin: uin.toString(),
    cursor_id: cursor_id.toString(),
    buffer_base64: Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).toString('base64'),
  })}\n`;
}

/**
 * The file that keeps items whose retry chain is exhausted, on the consumer's own disk: one line of JSON per item,
 * synced before the item is acknowledged. Several processes may append to the same file.
 */
export class DeadLetterFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Appends and syncs. Throws PhxError (LOG_IO) if the letters may not be on the disk. */
  async append(letters: readonly DeadLetter[]): Promise<void> {
    const bytes = Buffer.from(letters.map(toLine).join(''), 'utf8');
    try {
      await mkdir(dirname(this.path), { recursive: true });
      const file = await open(this.path, 'a');
      try {
        // One write: with O_APPEND lines of different processes do not mix.
        const { bytesWritten } = await file.write(bytes);
        if (bytesWritten !== bytes.length) throw new Error(`wrote ${bytesWritten} of ${bytes.length} bytes`);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (cause) {
      throw new PhxError('LOG_IO', `cannot keep ${letters.length} dead letters in ${this.path}`, {
        retryable: true,
        cause,
      });
    }
  }
}
