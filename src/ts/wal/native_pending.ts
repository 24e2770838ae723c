/** What the native engine waits for: appends that are not durable yet, and answers to `settled`. */
import { assert, PhxError } from '../errors.js';
import type { AppendDone } from './append_queue.js';
import { fromNativeError } from './native_binding.js';

interface Pending {
  readonly done: AppendDone;
  readonly bytes: number;
}

export class PendingAppends {
  failure: PhxError | null = null;
  /** Bytes of the appends that are not durable yet. */
  bytes = 0;
  low_on_space = false;
  /** Nothing is waited for any more. */
  onEmpty: () => void = () => undefined;
  /** How many of the appends that are not durable yet were handed over; the others are being gathered. */
  handed_over = 0;
  private appends: Pending[] = [];
  /** How many of `appends` have ended. */
  private ended = 0;
  private settling: (() => void)[] = [];
  private waiting: (() => void) | null = null;

  get empty(): boolean {
    return this.appends.length === this.ended && this.settling.length === 0;
  }

  push(done: AppendDone, bytes: number): void {
    this.appends.push({ done, bytes });
    this.bytes += bytes;
  }

  /** Resolves at the next answer. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.settling.push(resolve);
    });
  }

  /** Told by the addon, in order. */
  readonly committed = (
    appends: number,
    settled: number,
    low_on_space?: boolean | null,
    failure?: string | null,
  ): void => {
    if (typeof low_on_space === 'boolean') this.low_on_space = low_on_space;
    this.end(appends, null);
    if (typeof failure === 'string') {
      const error = fromNativeError(new Error(failure));
      this.failure = error instanceof PhxError ? error : new PhxError('LOG_POISONED', failure);
      this.end(this.appends.length - this.ended, this.failure);
    }
    if (settled > 0) for (const resolve of this.settling.splice(0, settled)) resolve();
    if (!this.empty) return;
    this.onEmpty();
    this.waiting?.();
  };

  /** Resolves when nothing is waited for. */
  async whenEmpty(): Promise<void> {
    if (this.empty) return;
    await new Promise<void>((resolve) => {
      this.waiting = resolve;
    });
  }

  private end(appends: number, failure: PhxError | null): void {
    this.handed_over = Math.max(0, this.handed_over - appends);
    const end = this.ended + appends;
    assert(end <= this.appends.length, 'no more appends complete than were made');
    while (this.ended < end) {
      const pending = this.appends[this.ended];
      this.ended++;
      this.bytes -= pending?.bytes ?? 0;
      pending?.done(failure);
    }
    if (this.ended * 2 < this.appends.length) return;
    this.appends = this.appends.slice(this.ended);
    this.ended = 0;
  }
}
