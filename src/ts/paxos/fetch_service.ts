/** Serves peers that catch up from the log: one portion at a time for each group and peer. */
import type { LogEngine } from '../wal/engine.js';
import type { CheckpointStore } from './checkpoint_store.js';
import type { Effect, Message } from './core/types.js';
import { placeOf } from './places.js';
import { entryOf } from './records.js';
import type { TransportLogger } from './transport.js';

export interface FetchServiceParts {
  readonly log: LogEngine;
  readonly checkpoints: CheckpointStore;
  /** Values in one answer, in bytes. */
  readonly learn_bytes_max: number;
  readonly logger: TransportLogger;
  /** Called at once or later, but never after the node has closed. */
  readonly answer: (to: number, group: number, message: Message) => void;
  /** The peer needs what the log no longer has. */
  readonly onMissing: (to: number, group: number) => void;
}

export class FetchService {
  readonly #parts: FetchServiceParts;
  readonly #serving = new Set<string>();
  #closed = false;

  constructor(parts: FetchServiceParts) {
    this.#parts = parts;
  }

  /** No answer is given any more. */
  close(): void {
    this.#closed = true;
  }

  serve(group: number, { to, from, through }: Effect & { type: 'serve_fetch' }): void {
    const { log, logger, checkpoints, learn_bytes_max, onMissing } = this.#parts;
    const key = `${group} ${to}`;
    if (from < (checkpoints.record(group)?.first_retained ?? 1)) {
      onMissing(to, group);
      return;
    }
    if (this.#serving.has(key)) return;
    this.#serving.add(key);
    log
      .readRange(group, from, through, learn_bytes_max)
      .then((entries) => {
        const learned = entries.map(({ instance, body }) => entryOf(instance, body));
        if (!this.#closed) this.#parts.answer(to, group, { type: 'learn', entries: learned });
      })
      .catch((error: unknown) => {
        logger.warn(`group ${group}: cannot serve instances from ${from} to replica ${placeOf(to)}: ${String(error)}`);
      })
      .finally(() => this.#serving.delete(key));
  }
}
