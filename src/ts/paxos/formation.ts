/**
 * How a cluster comes into being, and which of its replicas may vote: a step machine without input or output, clock or
 * randomness, so that a test can drive it through every crash. docs/internals/forming.md says why it is safe; in short:
 *
 * - A birth agrees to one list of founders in its life, and says so only once that is on its disk.
 * - A birth that began after damage agrees to none.
 * - A list has formed only when all of its founders agreed to it, so two lists that both form have no birth in common:
 *   every replica lost its disk between them. With `form with majority` the founders of the one and a majority of the
 *   other suffice: then it takes only the replicas that both have in common to lose theirs.
 * - Only a founder of the formed list votes, under the birth that the list names, or a birth that the members of all groups
 *   name in a founder's place; and in each start only after enough others, which remember durably how far it had got,
 *   found that its folder is not an older copy.
 */
import { assert } from '../errors.js';
import type {
  FormationConfig,
  FormationInput,
  FormationOutput,
  Origin,
  OwnRecord,
  Told,
  Verdict,
} from './formation_types.js';
import { type KnownPeer, PeerMemory } from './peer_memory.js';
import { type Birth, type FounderList, type Report, sameFounders } from './report.js';

interface WaitingAnswer {
  readonly record: number;
  readonly caller: number;
}

export class Formation {
  readonly #config: FormationConfig;
  readonly #memory: PeerMemory;
  #own: OwnRecord;
  /** What of it is on the disk; null until the first record is. */
  #durable: OwnRecord | null = null;
  readonly #writing: { readonly record: number; readonly own: OwnRecord }[] = [];
  #written = 0;
  #outputs: FormationOutput[] = [];
  #answers: WaitingAnswer[] = [];
  #own_changed = false;
  #peers_changed = false;
  /** The last word of each peer, by place. */
  readonly #heard = new Map<number, Report>();
  /** Which birth at a place let this replica in under its present birth and start. */
  readonly #welcomes = new Map<number, Birth>();
  /** What the groups' members say of a replica that joins. */
  #named: readonly (number | null)[] = [];
  #with_majority = false;
  #position = 0;
  #voting = false;

  /** `own` is what this start goes on with; `peers` what the disk remembers of the others. */
  constructor(config: FormationConfig, own: OwnRecord, peers: readonly KnownPeer[]) {
    assert(own.start >= 1, 'starts are counted from 1');
    this.#config = config;
    this.#own = own;
    this.#memory = new PeerMemory(peers);
  }

  /** Takes one input and returns what has to be done, in this order. */
  step(input: FormationInput): FormationOutput[] {
    switch (input.type) {
      case 'start':
        this.#own_changed = true;
        break;
      case 'hello':
        this.#onHello(input.caller, input.place, input.report);
        break;
      case 'welcome':
        this.#onWelcome(input.place, input.told, input.report);
        break;
      case 'status':
        this.#heed(input.place, input.report);
        break;
      case 'gone':
        this.#onGone(input.place);
        break;
      case 'position':
        assert(input.position >= this.#position, 'what was durable stays so');
        this.#position = input.position;
        break;
      case 'rebirth':
        if (input.told === this.#own.birth) this.#rebirth(input.birth, input.origin);
        break;
      case 'named':
        this.#named = input.ids;
        break;
      case 'form_with_majority':
        this.#with_majority = true;
        break;
      case 'durable':
        this.#onDurable(input.record);
        break;
    }
    this.#advance();
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  /** What this replica says of itself: nothing that its disk does not hold. */
  get report(): Report {
    assert(this.#durable !== null, 'nothing is said before the first record is durable');
    const { birth, start, agreed, formed, member } = this.#durable;
    // Whoever forgot that it agreed, or that the cluster has formed, forgot something.
    // What was learned without a vote says nothing: an older copy could learn as much again.
    const said = member === null ? 0 : 1 + this.#position;
    const position = said + (agreed === null ? 0 : 1) + (formed === null ? 0 : 1);
    return { birth, start, run: this.#config.run, position, agreed, formed, member };
  }

  /** Whether this replica may take part in the groups. */
  get may_vote(): boolean {
    return this.#voting;
  }

  /** Whether it follows its groups without a vote: a replica that joins a cluster, whoever it was before. */
  get joining(): boolean {
    const durable = this.#durable;
    return durable !== null && durable.birth === this.#own.birth && durable.formed !== null && durable.member === null;
  }

  /** The id of this replica in a group in which it votes. */
  idIn(group: number): number {
    const { ids } = this.#own;
    const id = ids === null ? this.#config.place : ids[group];
    assert(id !== undefined, 'a member has an id in each group');
    return id;
  }

  /** Whether a birth founded a place; where the list names nobody, one that says so. */
  isFounder(place: number, birth: Birth): boolean {
    const founder = this.#own.formed?.[place - 1];
    if (founder !== null) return founder === birth;
    const report = this.#heard.get(place);
    return report?.birth === birth && report.member === place;
  }

  /** Whether the replica at a place has a vote. */
  isVoter(place: number): boolean {
    const report = this.#heard.get(place);
    const founders = this.#own.formed;
    if (report === undefined || founders === null) return false;
    return report.member !== null || report.birth === founders[place - 1];
  }

  /** What keeps this replica from voting, as a sentence for people; empty if nothing does. */
  get obstacle(): string {
    if (this.#voting) return '';
    if (this.#durable === null) return 'its first record is not on the disk yet';
    const { formed, member, agreed } = this.#own;
    if (this.#waitsForCluster) return this.#waitingSentence();
    if (formed !== null) return member === null ? this.#joiningSentence() : this.#unwelcomedSentence();
    return agreed === null ? this.#unacquaintedSentence() : this.#disagreementSentence(agreed);
  }

  /**
   * Its log was damaged, so there was a cluster, and it never founds another one: where all logs are damaged, that would be an
   * empty one in the place of all items.
   */
  get #waitsForCluster(): boolean {
    return this.#own.formed === null && this.#own.origin === 'damage';
  }

  get #quorum(): number {
    return Math.floor(this.#config.replicas / 2) + 1;
  }

  get #others(): number[] {
    const places = Array.from({ length: this.#config.replicas }, (_, index) => index + 1);
    return places.filter((place) => place !== this.#config.place);
  }

  #onHello(caller: number, place: number, report: Report): void {
    const verdict = this.#judge(place, report);
    if (verdict.type !== 'welcome') {
      this.#outputs.push({ type: 'answer', caller, verdict });
      return;
    }
    this.#hear(place, report);
    // Also where nothing is new: it may still be on its way to the disk.
    this.#answers.push({ record: this.#written + (this.#peers_changed ? 1 : 0), caller });
  }

  #onWelcome(place: number, told: Told, report: Report): void {
    if (told.birth !== this.#own.birth || !this.#heed(place, report)) return;
    // Who was let in before it was a member has still to hear whether anybody knows a later one.
    const as_member = this.#own.ids === null || told.member !== null;
    if (as_member) this.#welcomes.set(place, report.birth);
  }

  /** What a birth agreed to stays true; that it is there does not. */
  #onGone(place: number): void {
    const report = this.#heard.get(place);
    if (report?.agreed === null && report.formed === null) this.#heard.delete(place);
  }

  /** Takes the word of a peer that is connected; false if that should end. */
  #heed(place: number, report: Report): boolean {
    const verdict = this.#judge(place, report);
    if (verdict.type === 'welcome') {
      this.#hear(place, report);
      return true;
    }
    this.#outputs.push({ type: 'hang_up', place, reason: verdict.reason });
    return false;
  }

  #hear(place: number, report: Report): void {
    this.#heard.set(place, report);
    if (this.#memory.remember(place, report, this.#own.formed?.[place - 1] ?? null)) this.#peers_changed = true;
  }

  #judge(place: number, report: Report): Verdict {
    const { formed } = this.#own;
    if (this.#memory.isOld(report)) {
      return { type: 'old', reason: 'it had said more before than its folder remembers: the folder is an older copy' };
    }
    if (formed !== null && report.formed !== null && !sameFounders(formed, report.formed)) {
      return { type: 'refuse', reason: 'its cluster was formed by other founders than this one' };
    }
    // Ids ascend: who came later has higher ones. Where no list names the founder, the first one that is met is taken for it.
    if (report.member !== null && this.#memory.hasSuccessor(place, report.birth, report.member)) {
      return { type: 'old', reason: 'another folder votes in its place' };
    }
    return { type: 'welcome' };
  }

  #rebirth(birth: Birth, origin: Origin): void {
    const { start, formed } = this.#own;
    // Whoever never heard of the cluster that its damaged log was of still has to.
    const kept = this.#waitsForCluster ? this.#own.origin : origin;
    this.#own = { birth, start, origin: kept, agreed: null, formed, member: null, ids: null };
    this.#named = [];
    this.#own_changed = true;
    this.#position = 0;
    this.#welcomes.clear();
    if (this.#voting) this.#outputs.push({ type: 'halt' });
    this.#voting = false;
  }

  #onDurable(record: number): void {
    assert(record <= this.#written, 'only what was written becomes durable');
    const before = this.#durable;
    while ((this.#writing[0]?.record ?? Number.POSITIVE_INFINITY) <= record) {
      this.#durable = this.#writing.shift()?.own ?? this.#durable;
    }
    const due = this.#answers.filter((answer) => answer.record <= record);
    this.#answers = this.#answers.filter((answer) => answer.record > record);
    for (const { caller } of due) this.#outputs.push({ type: 'answer', caller, verdict: { type: 'welcome' } });
    if (this.#durable !== null && this.#durable !== before) this.#announce(before, this.#durable);
  }

  /** Says what the disk holds now and did not hold before. */
  #announce(before: OwnRecord | null, now: OwnRecord): void {
    const introduced = before?.birth === now.birth && before.ids === now.ids;
    this.#outputs.push({ type: introduced ? 'tell' : 'introduce' });
    const { formed, member, origin, ids } = now;
    const known = before?.birth === now.birth && before.formed !== null;
    if (formed === null || (known && before.member === member)) return;
    if (member === null) this.#outputs.push({ type: 'joining', origin });
    else if (ids !== null) this.#outputs.push({ type: 'enrolled' });
    else this.#outputs.push({ type: 'formed', founders: formed, member });
  }

  #advance(): void {
    if (this.#durable !== null) {
      if (this.#own.formed === null) this.#adoptFormed();
      if (this.#own.formed === null && this.#own.agreed === null && !this.#waitsForCluster) this.#tryAgree();
      if (this.#own.formed === null && this.#own.agreed !== null) this.#tryForm(this.#own.agreed);
      if (this.joining && this.#own.member === null) this.#tryEnrol();
    }
    this.#write();
    this.#tryVote();
  }

  /** A cluster that a peer knows to exist is the cluster. Who is not among its founders has no vote in it. */
  #adoptFormed(): void {
    const witness = [...this.#heard.values()].find(({ formed }) => formed !== null);
    if (witness !== undefined && witness.formed !== null) this.#form(witness.formed);
  }

  #form(founders: FounderList): void {
    const { place } = this.#config;
    const member = founders[place - 1] === this.#own.birth ? place : null;
    this.#own = { ...this.#own, formed: founders, member };
    this.#own_changed = true;
  }

  #tryAgree(): void {
    const present = this.#present();
    const proposals = this.#othersLists();
    const complete = present.every((birth) => birth !== null);
    if (complete && proposals.every((list) => sameFounders(list, present))) {
      this.#agree(present);
    } else if (this.#with_majority) {
      const proposed = this.#bestProposal(present, proposals);
      if (proposed !== null) this.#agree(proposed);
      else if (proposals.length === 0 && count(present) >= this.#quorum) this.#agree(present);
    }
  }

  #agree(founders: FounderList): void {
    assert(this.#own.agreed === null, 'a birth agrees once');
    this.#own = { ...this.#own, agreed: founders };
    this.#own_changed = true;
  }

  /** The births of all that are there. */
  #present(): FounderList {
    const { place, replicas } = this.#config;
    return Array.from({ length: replicas }, (_, index) =>
      index + 1 === place ? this.#own.birth : (this.#heard.get(index + 1)?.birth ?? null),
    );
  }

  #othersLists(): FounderList[] {
    return [...this.#heard.values()].flatMap(({ agreed }) => (agreed === null ? [] : [agreed]));
  }

  /** The list that most others agreed to, names this birth, and can still become that of a majority. */
  #bestProposal(present: FounderList, proposals: readonly FounderList[]): FounderList | null {
    const named = proposals.filter((list) => {
      const alive = list.filter((birth, index) => birth !== null && birth === present[index]).length;
      return list[this.#config.place - 1] === this.#own.birth && alive >= this.#quorum;
    });
    const support = (list: FounderList): number => named.filter((other) => sameFounders(list, other)).length;
    return named.reduce<FounderList | null>(
      (best, list) => (best === null || support(list) > support(best) ? list : best),
      null,
    );
  }

  #tryForm(agreed: FounderList): void {
    const missing = this.#disagreeing(agreed).length;
    const supporters = count(agreed) - missing;
    if (missing === 0 || (this.#with_majority && supporters >= this.#quorum)) this.#form(agreed);
  }

  /** Places whose founder on the list has not said that it agreed to the list. */
  #disagreeing(list: FounderList): number[] {
    return this.#others.filter((place) => {
      const founder = list[place - 1] ?? null;
      const report = this.#heard.get(place);
      if (founder === null) return false;
      return report?.birth !== founder || report.agreed === null || !sameFounders(report.agreed, list);
    });
  }

  #tryVote(): void {
    if (this.#voting || this.#durable?.birth !== this.#own.birth) return;
    if (this.#durable.formed === null || this.#durable.member === null) return;
    if (this.#witnesses().length < this.#quorum - 1) return;
    this.#voting = true;
    this.#outputs.push({ type: 'may_vote' });
  }

  /**
   * Becomes a member in its own place once all groups name it, and enough voters found that its folder is not an older copy,
   * from a time when it had forgotten that it is one already. It votes once enough of them remember it as that member: what
   * names it may be history, and another one have its place by now.
   */
  #tryEnrol(): void {
    const ids = this.#named.filter((id) => id !== null);
    if (ids.length === 0 || ids.length < this.#named.length) return;
    if (this.#witnesses().length < this.#quorum - 1) return;
    this.#own = { ...this.#own, member: Math.min(...ids), ids };
    this.#own_changed = true;
    this.#welcomes.clear();
  }

  /** Places whose voter let this replica in, in this start: it remembers durably how far this replica is. */
  #witnesses(): number[] {
    return this.#others.filter(
      (place) => this.isVoter(place) && this.#welcomes.get(place) === this.#heard.get(place)?.birth,
    );
  }

  /** A change of this replica, and what somebody waits for, is written at once; the rest when nothing else is written. */
  #write(): void {
    const waited_for = this.#answers.some(({ record }) => record > this.#written);
    const lazy = this.#peers_changed && (waited_for || this.#writing.length === 0) && this.#durable !== null;
    if (this.#own_changed || lazy) {
      this.#written += 1;
      this.#writing.push({ record: this.#written, own: this.#own });
      const { record, own, peers } = { record: this.#written, own: this.#own, peers: this.#memory.list() };
      this.#outputs.push({ type: 'write', record, own, peers });
      this.#own_changed = false;
      this.#peers_changed = false;
    }
    if (this.#writing.length > 0) return;
    for (const { caller } of this.#answers)
      this.#outputs.push({ type: 'answer', caller, verdict: { type: 'welcome' } });
    this.#answers = [];
  }

  #joiningSentence(): string {
    const reasons: Readonly<Record<Origin, string>> = {
      empty: 'its folder was empty, but the cluster exists',
      old: 'its folder is older than what it had told the others',
      damage: 'its log was damaged, and what is lost may have been a vote',
      votes: 'its folder is of another cluster',
      replaced: 'another folder has taken its place meanwhile',
    };
    const named = this.#named.filter((id) => id !== null).length;
    return (
      `it has no vote: ${reasons[this.#own.origin]}. It catches up and becomes a new member in its own place by itself: ` +
      `it is one in ${named} of ${this.#named.length} groups, and votes once it is one in all`
    );
  }

  #unwelcomedSentence(): string {
    const missing = this.#quorum - 1 - this.#witnesses().length;
    const witnesses = this.#witnesses();
    const awaited = this.#others.filter((place) => !witnesses.includes(place));
    return (
      `it votes again once ${missing} of ${this.#names(awaited)} confirmed that its folder is not an older copy: ` +
      'start the others or look at the network'
    );
  }

  #waitingSentence(): string {
    const absent = this.#others.filter((place) => !this.#heard.has(place));
    const awaited = absent.length > 0 ? ` (${this.#names(absent)} cannot be reached)` : '';
    return (
      `its log was damaged, and it waits to hear from a replica of the cluster that it was in${awaited}: it joins that one, ` +
      'and never forms a new one'
    );
  }

  #unacquaintedSentence(): string {
    const absent = this.#others.filter((place) => !this.#heard.has(place));
    const rule = `a new cluster forms only when all ${this.#config.replicas} replicas have been up together`;
    if (absent.length > 0) return `it waits to hear from ${this.#names(absent)}: ${rule}`;
    return `${this.#strangers(this.#present())}, and cannot form it anew: ${this.#wayOut()}`;
  }

  #disagreementSentence(agreed: FounderList): string {
    const awaited = this.#disagreeing(agreed);
    const changed = awaited.filter(
      (place) => (this.#heard.get(place)?.birth ?? agreed[place - 1]) !== agreed[place - 1],
    );
    if (changed.length > 0)
      return `${this.#names(changed)} lost its folder while the cluster formed: ${this.#wayOut()}`;
    return `it waits for ${this.#names(awaited)} to agree to the founders of the new cluster`;
  }

  #strangers(present: FounderList): string {
    const differing = this.#others.filter((place) => {
      const agreed = this.#heard.get(place)?.agreed ?? null;
      return agreed !== null && !sameFounders(agreed, present);
    });
    return `${this.#names(differing)} agreed to other founders than those that are there`;
  }

  #wayOut(): string {
    return (
      'if this store never served anything, stop all of its replicas, empty their data folders and start them; ' +
      'else start a majority of them with --form-with-majority (docs/internals/forming.md)'
    );
  }

  #names(places: readonly number[]): string {
    return places.map((place) => this.#config.nameOf(place)).join(', ');
  }
}

function count(founders: FounderList): number {
  return founders.filter((birth) => birth !== null).length;
}
