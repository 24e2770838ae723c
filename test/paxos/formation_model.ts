/**
 * Several replicas that form a cluster, with their disks and the network between them played by the test. Whoever may vote
 * votes now and then, so that there is something to forget. The groups are lists of who is a member in which place.
 */
import { Formation } from '../../src/ts/paxos/formation.js';
import type { FormationOutput, OwnRecord, Verdict } from '../../src/ts/paxos/formation_types.js';
import type { KnownPeer } from '../../src/ts/paxos/peer_memory.js';
import type { Birth, Report } from '../../src/ts/paxos/report.js';

interface Disk {
  readonly own: OwnRecord;
  readonly peers: readonly KnownPeer[];
  readonly votes: number;
}

/** A replica while its process runs. */
interface Process {
  readonly formation: Formation;
  readonly writes: { readonly record: number; readonly own: OwnRecord; readonly peers: readonly KnownPeer[] }[];
  introduced: boolean;
}

type Packet =
  | { readonly type: 'hello'; readonly from: number; readonly to: number; readonly report: Report }
  | {
      readonly type: 'answer';
      readonly from: number;
      readonly to: number;
      readonly verdict: Verdict;
      readonly told: Report;
      readonly report: Report;
    }
  | { readonly type: 'status'; readonly from: number; readonly to: number; readonly report: Report };

export type Fault =
  | {
      readonly type: 'start' | 'wipe' | 'damage' | 'copy' | 'restore' | 'flag' | 'vote' | 'named';
      readonly place: number;
    }
  | { readonly type: 'greet'; readonly place: number; readonly peer: number }
  | { readonly type: 'deliver' | 'lose' | 'double'; readonly pick: number }
  | { readonly type: 'settle' }
  | { readonly type: 'crash' | 'sync' | 'gone' | 'replace'; readonly place: number; readonly pick: number };

export class Model {
  readonly replicas: number;
  readonly disks = new Map<number, Disk>();
  readonly copies = new Map<number, Disk>();
  readonly processes = new Map<number, Process>();
  packets: Packet[] = [];
  /** Every list that some disk held as formed. */
  readonly formed = new Set<string>();
  /** Births that voted, by place. */
  readonly voters = new Map<number, Set<Birth>>();
  /** Places whose disk was lost or replaced by an older copy. */
  readonly lost = new Set<number>();
  /** Births of folders that had formed and are gone, and of those that were older than all peers knew. */
  readonly forbidden = new Map<Birth, string>();
  readonly violations: string[] = [];
  /** Of each group the members in place of founders, by place. */
  readonly groups: readonly Map<number, { readonly birth: Birth; readonly id: number }>[] = [new Map(), new Map()];
  /** Births that all groups named once. */
  readonly named = new Set<Birth>();
  #ids = 0;
  #births = 0;
  #callers = new Map<number, { readonly to: number; readonly from: number; readonly told: Report }>();
  #caller = 0;

  constructor(replicas: number) {
    this.replicas = replicas;
  }

  get places(): number[] {
    return Array.from({ length: this.replicas }, (_, index) => index + 1);
  }

  apply(fault: Fault): void {
    switch (fault.type) {
      case 'crash':
        this.#crash(fault.place, fault.pick);
        break;
      case 'start':
        this.start(fault.place);
        break;
      case 'wipe':
        this.#lose(fault.place);
        this.disks.delete(fault.place);
        break;
      case 'damage':
        this.#damage(fault.place);
        break;
      case 'copy':
        this.#copy(fault.place);
        break;
      case 'restore':
        this.restore(fault.place);
        break;
      case 'flag':
        this.#step(fault.place, { type: 'form_with_majority' });
        break;
      case 'greet':
        this.greet(fault.place, fault.peer);
        break;
      case 'deliver':
        this.#deliver(this.#take(fault.pick));
        break;
      case 'lose':
        this.#take(fault.pick);
        break;
      case 'double': {
        const packet = this.packets[fault.pick % Math.max(1, this.packets.length)];
        if (packet !== undefined) this.packets.push(packet);
        break;
      }
      case 'sync':
        this.#sync(fault.place, fault.pick);
        break;
      case 'vote':
        this.#vote(fault.place);
        break;
      case 'replace':
        this.#replace(fault.place, fault.pick);
        break;
      case 'named':
        this.#tellNamed(fault.place);
        break;
      case 'settle':
        this.settle();
        break;
      case 'gone':
        this.#step(fault.place, { type: 'gone', place: 1 + (fault.pick % this.replicas) });
        break;
    }
  }

  start(place: number): void {
    if (this.processes.has(place)) return;
    const disk = this.disks.get(place);
    const own: OwnRecord =
      disk === undefined
        ? { birth: this.#newBirth(), start: 1, origin: 'empty', agreed: null, formed: null, member: null, ids: null }
        : { ...disk.own, start: disk.own.start + 1 };
    const config = { place, replicas: this.replicas, run: this.#newBirth(), nameOf: String };
    const formation = new Formation(config, own, disk?.peers ?? []);
    this.processes.set(place, { formation, writes: [], introduced: false });
    if ((disk?.votes ?? 0) > 0) this.#step(place, { type: 'position', position: disk?.votes ?? 0 });
    this.#step(place, { type: 'start' });
  }

  greet(from: number, to: number): void {
    const process = this.processes.get(from);
    if (process === undefined || !process.introduced || from === to) return;
    this.packets.push({ type: 'hello', from, to, report: this.#reportOf(from, process) });
  }

  /** Everything that waits is delivered and written, and all who can meet, until nothing changes any more. */
  settle(): void {
    for (let round = 0; round < 4; round += 1) {
      for (const from of this.places) for (const to of this.places) this.greet(from, to);
      for (let steps = 0; steps < 10_000; steps += 1) {
        const before = this.packets.length;
        const packet = this.packets.shift();
        if (packet !== undefined) this.#deliver(packet);
        let wrote = false;
        for (const place of this.places) wrote = this.#sync(place, 1_000) || wrote;
        if (before === 0 && !wrote) break;
      }
    }
  }

  restore(place: number): void {
    const copy = this.copies.get(place);
    const disk = this.disks.get(place);
    if (copy === undefined || this.processes.has(place)) return;
    this.#lose(place);
    this.disks.set(place, copy);
    if (disk === undefined || disk.own.birth !== copy.own.birth || copy.own.formed === null) return;
    const said = copy.own.member === null ? 0 : 1 + copy.votes;
    const position = said + (copy.own.agreed === null ? 0 : 1) + (copy.own.formed === null ? 0 : 1);
    const knowing = this.places.filter((peer) => {
      const known = this.disks.get(peer)?.peers.find(({ birth }) => birth === copy.own.birth);
      return peer !== place && known !== undefined && (copy.own.start < known.start || position < known.position);
    });
    // Whoever is asked, one of them knows: as long as they remember.
    if (knowing.length === this.replicas - 1) this.forbidden.set(copy.own.birth, 'an old folder that all others know');
  }

  /** All that join become members of all groups, as far as there is a majority to make them. */
  enrol(): void {
    for (const place of this.places) {
      for (const group of this.groups.keys()) this.#replace(place, group);
      this.#tellNamed(place);
    }
    this.settle();
  }

  /** The history of the groups, which who joins reads from its beginning, names it as it was named once. */
  recall(place: number, ids: readonly number[]): void {
    this.#step(place, { type: 'named', ids });
  }

  voting(): number[] {
    return this.places.filter((place) => this.processes.get(place)?.formation.may_vote === true);
  }

  /** What was being written may have reached the disk, in order, without anybody hearing of it. */
  #crash(place: number, pick: number): void {
    const process = this.processes.get(place);
    if (process === undefined) return;
    this.processes.delete(place);
    const reached = process.writes[(pick % (process.writes.length + 1)) - 1];
    if (reached !== undefined) this.#keep(place, reached);
  }

  #lose(place: number): void {
    this.processes.delete(place);
    this.lost.add(place);
    // What others remember of the rest may be lost with it.
    this.forbidden.clear();
  }

  /** What keeps each from voting. */
  obstacles(): string {
    return [...this.processes].map(([place, { formation }]) => `${place}: ${formation.obstacle}`).join('; ');
  }

  /** Its log is set aside, and another one begun. */
  #damage(place: number): void {
    if (!this.disks.has(place)) return;
    this.#lose(place);
    const birth = this.#newBirth();
    const own: OwnRecord = {
      ...{ birth, start: 0, origin: 'damage', agreed: null, formed: null, member: null, ids: null },
    };
    this.disks.set(place, { own, peers: [], votes: 0 });
  }

  #copy(place: number): void {
    const disk = this.disks.get(place);
    if (disk !== undefined) this.copies.set(place, disk);
  }

  #newBirth(): Birth {
    this.#births += 1;
    return this.#births.toString(16).padStart(16, '0');
  }

  #take(pick: number): Packet | undefined {
    if (this.packets.length === 0) return undefined;
    return this.packets.splice(pick % this.packets.length, 1)[0];
  }

  #deliver(packet: Packet | undefined): void {
    // Nobody listens before the first record is durable.
    if (packet === undefined || this.processes.get(packet.to)?.introduced !== true) return;
    const { from, to, report } = packet;
    switch (packet.type) {
      case 'hello':
        this.#caller += 1;
        this.#callers.set(this.#caller, { to, from, told: packet.report });
        this.#step(to, { type: 'hello', caller: this.#caller, place: from, report });
        break;
      case 'status':
        this.#step(to, { type: 'status', place: from, report });
        break;
      case 'answer': {
        const own = this.processes.get(to)?.formation;
        // An answer comes on the connection of its question: it never reaches another process.
        if (own === undefined || own.report.run !== packet.told.run) return;
        const { told } = packet;
        if (packet.verdict.type === 'welcome') this.#step(to, { type: 'welcome', place: from, told, report });
        if (packet.verdict.type === 'old') {
          this.#step(to, { type: 'rebirth', told: told.birth, birth: this.#newBirth(), origin: 'old' });
        }
        break;
      }
    }
  }

  #sync(place: number, upTo: number): boolean {
    const process = this.processes.get(place);
    if (process === undefined || process.writes.length === 0) return false;
    const written = process.writes.splice(0, 1 + upTo);
    const last = written.at(-1);
    if (last === undefined) return false;
    this.#keep(place, last);
    this.#step(place, { type: 'durable', record: last.record });
    return true;
  }

  #keep(place: number, { own, peers }: Pick<Disk, 'own' | 'peers'>): void {
    this.disks.set(place, { own, peers, votes: this.disks.get(place)?.votes ?? 0 });
    if (own.origin === 'damage' && own.agreed !== null) this.violations.push(`replica ${place} founds after damage`);
    if (own.formed !== null) this.formed.add(JSON.stringify(own.formed));
  }

  #vote(place: number): void {
    const process = this.processes.get(place);
    const disk = this.disks.get(place);
    if (process === undefined || disk === undefined || !process.formation.may_vote) return;
    this.#checkVoter(place);
    this.disks.set(place, { ...disk, votes: disk.votes + 1 });
    this.#step(place, { type: 'position', position: disk.votes + 1 });
    this.#tell(place);
  }

  #checkVoter(place: number): void {
    const disk = this.disks.get(place);
    if (disk === undefined) return;
    const { birth, formed } = disk.own;
    const reason = this.forbidden.get(birth);
    if (reason !== undefined) this.violations.push(`${birth} votes: ${reason}`);
    const member = formed?.[place - 1] === birth || this.named.has(birth);
    if (!member) this.violations.push(`${birth} votes without being a member`);
    const births = this.voters.get(place) ?? new Set();
    this.voters.set(place, births.add(birth));
  }

  /** A majority that votes makes a replica that joins a member in its own place. */
  #replace(place: number, pick: number): void {
    const formation = this.processes.get(place)?.formation;
    const group = this.groups[pick % this.groups.length];
    if (formation?.joining !== true || 2 * this.voting().length <= this.replicas) return;
    const { birth } = formation.report;
    if (group === undefined || group.get(place)?.birth === birth) return;
    this.#ids += this.replicas;
    group.set(place, { birth, id: place + this.#ids });
  }

  #tellNamed(place: number): void {
    const formation = this.processes.get(place)?.formation;
    if (formation?.joining !== true) return;
    const { birth } = formation.report;
    const ids = this.groups.map((group) => {
      const member = group.get(place);
      return member?.birth === birth ? member.id : null;
    });
    if (ids.every((id) => id !== null)) this.named.add(birth);
    this.#learn(place);
    this.#step(place, { type: 'named', ids });
  }

  /** It fetches what the others voted for. */
  #learn(place: number): void {
    const disk = this.disks.get(place);
    const votes = Math.max(...[...this.disks.values()].map((other) => other.votes));
    if (disk === undefined || disk.votes >= votes) return;
    this.disks.set(place, { ...disk, votes });
    this.#step(place, { type: 'position', position: votes });
  }

  #tell(place: number): void {
    const process = this.processes.get(place);
    if (process === undefined || !process.introduced) return;
    const report = this.#reportOf(place, process);
    for (const to of this.places) if (to !== place) this.packets.push({ type: 'status', from: place, to, report });
  }

  #step(place: number, input: Parameters<Formation['step']>[0]): void {
    const process = this.processes.get(place);
    if (process === undefined) return;
    for (const output of process.formation.step(input)) this.#perform(place, process, output);
  }

  #perform(place: number, process: Process, output: FormationOutput): void {
    switch (output.type) {
      case 'write':
        process.writes.push(output);
        break;
      case 'answer': {
        const asked = this.#callers.get(output.caller);
        if (asked === undefined) throw new Error('an answer to nobody');
        this.#callers.delete(output.caller);
        const report = this.#reportOf(place, process);
        const { verdict } = output;
        this.packets.push({ type: 'answer', from: place, to: asked.from, verdict, told: asked.told, report });
        if (verdict.type === 'welcome') this.#checkRemembered(place, asked.from, asked.told);
        break;
      }
      case 'introduce':
        process.introduced = true;
        for (const to of this.places) this.greet(place, to);
        break;
      case 'tell':
        this.#tell(place);
        break;
      case 'may_vote':
        this.#checkVoter(place);
        break;
      default:
        break;
    }
  }

  /** What a replica says of itself is on its disk. */
  #reportOf(place: number, { formation }: Process): Report {
    const { report } = formation;
    const own = this.disks.get(place)?.own;
    const said = [report.birth, report.start, report.agreed, report.formed, report.member];
    const held = [own?.birth, own?.start, own?.agreed, own?.formed, own?.member];
    if (JSON.stringify(said) !== JSON.stringify(held)) this.violations.push(`replica ${place} says what it may forget`);
    return report;
  }

  /** Who is let in is remembered on the disk by then. */
  #checkRemembered(place: number, from: number, told: Report): void {
    const known = this.disks.get(place)?.peers.find(({ birth }) => birth === told.birth);
    const fine = known !== undefined && known.place === from && known.start >= told.start;
    if (!fine || (known.start === told.start && known.position < told.position)) {
      this.violations.push(`replica ${place} let in replica ${from} before it remembered it`);
    }
  }
}
