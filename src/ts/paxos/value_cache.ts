/** What a value takes besides its bytes: buffers, views and entries of maps, as measured. */
export const VALUE_OVERHEAD_BYTES = 400;

/** The newest applied values of all groups, so that consumers near the tail cost no disk reads. Oldest out first. */
export class ValueCache {
  readonly #bytes_max: number;
  readonly #groups = new Map<number, Map<number, Uint8Array>>();
  #order: { readonly group: number; readonly instance: number; readonly bytes: number }[] = [];
  #head = 0;
  #bytes = 0;

  constructor(bytes_max: number) {
    this.#bytes_max = bytes_max;
  }

  get bytes(): number {
    return this.#bytes;
  }

  put(group: number, instance: number, value: Uint8Array): void {
    let values = this.#groups.get(group);
    if (values === undefined) {
      values = new Map();
      this.#groups.set(group, values);
    }
    values.set(instance, value);
    const bytes = value.length + VALUE_OVERHEAD_BYTES;
    this.#order.push({ group, instance, bytes });
    this.#bytes += bytes;
    while (this.#bytes > this.#bytes_max) this.#evict();
  }

  get(group: number, instance: number): Uint8Array | undefined {
    return this.#groups.get(group)?.get(instance);
  }

  #evict(): void {
    const oldest = this.#order[this.#head];
    if (oldest === undefined) return;
    this.#head += 1;
    this.#groups.get(oldest.group)?.delete(oldest.instance);
    this.#bytes -= oldest.bytes;
    if (this.#head > 1024 && this.#head * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
  }
}
