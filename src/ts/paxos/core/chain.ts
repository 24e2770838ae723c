/**
 * The checksum chain of a group: link i is the checksum of value i, seeded with link i - 1. Two replicas whose links at
 * one instance are equal have applied the same values up to there.
 */
import { assert } from '../../errors.js';

/** Checksum of `bytes` that goes on from `seed`: an unsigned 32-bit number. */
export type Checksum = (bytes: Uint8Array, seed: number) => number;

/** Links kept for comparison: a peer may be this far behind. */
const LINKS_KEPT = 1_024;

/** The end of a chain: what has to be kept of everything before. */
export interface Link {
  readonly instance: number;
  readonly chain: number;
}

export class Chain {
  readonly #checksum: Checksum;
  readonly #links = new Map<number, number>();
  #through: number;

  constructor(checksum: Checksum, end: Link) {
    this.#checksum = checksum;
    this.#through = end.instance;
    this.#links.set(end.instance, end.chain);
  }

  /** The newest link. */
  get end(): Link {
    return { instance: this.#through, chain: this.#newest };
  }

  /** The link at `instance`, or null if it is not known any more, or not yet. */
  at(instance: number): number | null {
    return this.#links.get(instance) ?? null;
  }

  add(instance: number, value: Uint8Array): void {
    assert(instance === this.#through + 1, 'a chain has no gaps');
    const link = this.#checksum(value, this.#newest);
    this.#through = instance;
    this.#links.set(instance, link);
    this.#links.delete(instance - LINKS_KEPT);
  }

  /** Goes on from the end of another replica's chain. */
  restart(end: Link): void {
    assert(end.instance > this.#through, 'a chain never goes back');
    this.#links.clear();
    this.#through = end.instance;
    this.#links.set(end.instance, end.chain);
  }

  get #newest(): number {
    const link = this.#links.get(this.#through);
    assert(link !== undefined, 'the newest link is kept');
    return link;
  }
}
