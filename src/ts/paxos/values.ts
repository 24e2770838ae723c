/** The applied values of all groups: the newest in memory, the others in the log. */
import { PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { entryOf } from './records.js';
import { ValueCache } from './value_cache.js';

export class Values {
  readonly #log: LogEngine;
  readonly #cache: ValueCache;

  constructor(log: LogEngine, cache_bytes_max: number) {
    this.#log = log;
    this.#cache = new ValueCache(cache_bytes_max);
  }

  put(group: number, instance: number, value: Uint8Array): void {
    this.#cache.put(group, instance, value);
  }

  /** Rejects with LOG_CORRUPT where the log does not have it, and with what the log fails with. */
  get(group: number, instance: number): Uint8Array | Promise<Uint8Array> {
    return this.#cache.get(group, instance) ?? this.#read(group, instance);
  }

  async #read(group: number, instance: number): Promise<Uint8Array> {
    const body = await this.#log.read(group, instance);
    if (body === null) throw new PhxError('LOG_CORRUPT', `group ${group}: instance ${instance} is not in the log`);
    return entryOf(instance, body).value;
  }
}
