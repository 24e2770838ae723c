/**
 * What a replica remembers of the others, on its disk: for each birth the highest start, and how far it had got. A folder
 * that comes back with less than that is an old one. Pure: part of `formation.ts`.
 */
import type { Birth, Report } from './report.js';

/** Births remembered of one place; of more, those without a vote are forgotten first, and among them the oldest. */
const BIRTHS_MAX = 4;

export interface KnownPeer {
  readonly place: number;
  readonly birth: Birth;
  readonly start: number;
  readonly run: string;
  readonly position: number;
  /** It said that it has a vote. */
  readonly votes: boolean;
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

  /** The birth at a place that was known to vote, other than `birth`. */
  otherVoter(place: number, birth: Birth): Birth | null {
    for (const peer of this.#peers.values()) {
      if (peer.place === place && peer.votes && peer.birth !== birth) return peer.birth;
    }
    return null;
  }

  /** Takes in a report that is not an old one. `founder` is the birth that founded the place. True if it was news. */
  remember(place: number, report: Report, founder: Birth | null): boolean {
    const { birth, start, run, member } = report;
    const known = this.#peers.get(birth);
    const position = Math.max(report.position, known?.position ?? 0);
    const votes = member !== null || known?.votes === true;
    if (known !== undefined && known.start === start && known.position === position && known.votes === votes) {
      return false;
    }
    this.#peers.set(birth, { place, birth, start, run, position, votes });
    this.#forget(place, birth, founder);
    return true;
  }

  #forget(place: number, newest: Birth, founder: Birth | null): void {
    const here = this.list().filter((peer) => peer.place === place && peer.birth !== newest);
    const dispensable = (peer: KnownPeer): boolean => !peer.votes && peer.birth !== founder;
    const candidates = [...here.filter(dispensable), ...here.filter((peer) => !dispensable(peer))];
    for (const { birth } of candidates.slice(0, Math.max(0, here.length + 1 - BIRTHS_MAX))) this.#peers.delete(birth);
  }
}
