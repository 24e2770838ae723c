/**
 * What a replica remembers of the others, on its disk: for each birth the highest start, and how far it had got. A folder
 * that comes back with less than that is an old one. Pure: part of `formation.ts`.
 */
import type { Birth, Report } from './report.js';

/** Births remembered of one place; of more, those without a vote are forgotten first, the oldest first, then those with low ids. */
const BIRTHS_MAX = 4;

export interface KnownPeer {
  readonly place: number;
  readonly birth: Birth;
  readonly start: number;
  readonly run: string;
  readonly position: number;
  /** The lowest id under which it said that it votes; null: it never said that it has a vote. */
  readonly member: number | null;
}

export class PeerMemory {
  /** In the order in which they were first met. */
  readonly #peers = new Map<Birth, KnownPeer>();

  constructor(peers: readonly KnownPeer[]) {
    for (const peer of peers) this.#peers.set(peer.birth, peer);
  }

  list(): KnownPeer[] {
    return [...this.#peers.values()];
  }

  /** Whether the replica said more in an earlier life of its folder than it remembers now. */
  isOld({ birth, start, run, position }: Report): boolean {
    const known = this.#peers.get(birth);
    if (known === undefined || (start === known.start && run === known.run)) return false;
    return start <= known.start || position < known.position;
  }

  /** Whether another birth at a place votes under the same id as `birth`, or a higher one. */
  hasSuccessor(place: number, birth: Birth, member: number): boolean {
    return this.list().some(
      (peer) => peer.place === place && peer.birth !== birth && peer.member !== null && peer.member >= member,
    );
  }

  /** Takes in a report that is not an old one. `founder` is the birth that founded the place. True if it was news. */
  remember(place: number, report: Report, founder: Birth | null): boolean {
    const { birth, start, run } = report;
    const known = this.#peers.get(birth);
    const position = Math.max(report.position, known?.position ?? 0);
    const member = report.member ?? known?.member ?? null;
    if (known !== undefined && known.start === start && known.position === position && known.member === member) {
      return false;
    }
    this.#peers.set(birth, { place, birth, start, run, position, member });
    this.#forget(place, birth, founder);
    return true;
  }

  #forget(place: number, newest: Birth, founder: Birth | null): void {
    const here = this.list().filter((peer) => peer.place === place && peer.birth !== newest);
    const dispensable = (peer: KnownPeer): boolean => peer.member === null && peer.birth !== founder;
    const voters = here.filter((peer) => !dispensable(peer)).sort((a, b) => (a.member ?? 0) - (b.member ?? 0));
    const candidates = [...here.filter(dispensable), ...voters];
    for (const { birth } of candidates.slice(0, Math.max(0, here.length + 1 - BIRTHS_MAX))) this.#peers.delete(birth);
  }
}
