/**
 * Who this replica is among the others, and whether it may vote: performs on the log and the connections what the state
 * machine of `formation.ts` wants, and keeps people informed.
 */
import type { LogEngine, LogRecord } from '../wal/engine.js';
import { Formation } from './formation.js';
import type { FormationInput, FormationOutput, OwnRecord, Verdict } from './formation_types.js';
import type { Admission } from './incoming.js';
import { holdsGroups, nodeRecordsOf, readNodeRecords } from './node_records.js';
import { type Named, voterIds } from './places.js';
import type { Replica } from './replicated_log.js';
import type { Birth, Report } from './report.js';
import type { Runtime } from './runtime.js';
import type { Joiner } from './succession.js';
import type { Introductions, TransportLogger } from './transport.js';
import type { VotePosition } from './vote_position.js';

/** Replicas that are up have met by then; `form with majority` takes those that are absent for missing. */
const FORM_WITH_MAJORITY_AFTER_MS = 3_000;

export interface EnrolmentOptions {
  /** Place of this replica in the configuration. */
  readonly place: number;
  readonly replicas: readonly Replica[];
  readonly log: LogEngine;
  readonly position: VotePosition;
  readonly runtime: Pick<Runtime, 'seed' | 'after'>;
  readonly form_with_majority: boolean;
  readonly logger: TransportLogger;
  /** Appends records; `durable(record)` has to follow. */
  readonly write: (record: number, records: readonly LogRecord[]) => void;
  /** This replica introduces itself under another birth, or as a new member. */
  readonly onReintroduce: () => void;
  /** What this replica says of itself has changed. */
  readonly onTell: () => void;
  readonly onMayVote: () => void;
  /** At once: no vote any more. */
  readonly onHalt: () => void;
}

export class Enrolment implements Introductions {
  readonly #options: EnrolmentOptions;
  readonly #formation: Formation;
  readonly #answers = new Map<number, (admission: Admission) => void>();
  readonly #introduced: Promise<void>;
  #settleIntroduced: { resolve: () => void; reject: (error: Error) => void } | null = null;
  /** Who was found at the addresses of the peers that are connected, and those of them that have no vote in this cluster. */
  readonly #found = new Map<number, Birth>();
  readonly #joiners = new Map<number, Birth>();
  #objection: string | null = null;
  #callers = 0;
  #stopMajorityTimer: () => void = () => undefined;

  /** Throws LOG_CORRUPT, CONFIG. */
  constructor(options: EnrolmentOptions) {
    this.#options = options;
    const { place, replicas, log } = options;
    const found = readNodeRecords(log, replicas.length);
    const own = found.own ?? this.#newOwn();
    const nameOf = (id: number): string => {
      const replica = replicas.find((candidate) => candidate.id === id);
      return `replica ${id}${replica === undefined ? '' : ` (${replica.host}:${replica.paxos_port})`}`;
    };
    this.#formation = new Formation(
      { place, replicas: replicas.length, run: this.#randomBirth(), nameOf },
      { ...own, start: own.start + 1 },
      found.peers,
    );
    this.#introduced = new Promise((resolve, reject) => {
      this.#settleIntroduced = { resolve, reject };
    });
    // Whoever starts this replica hears of it, if somebody still waits.
    this.#introduced.catch(() => undefined);
  }

  /** Resolves when this replica may introduce itself. Rejects if it cannot be recorded who it is. */
  start(): Promise<void> {
    this.#take({ type: 'start' });
    return this.#introduced;
  }

  /** This replica can be reached and reaches the others, as far as they are there. */
  listening(): void {
    if (!this.#options.form_with_majority) return;
    this.#stopMajorityTimer = this.#options.runtime.after(FORM_WITH_MAJORITY_AFTER_MS, () => {
      if (this.#formation.report.formed === null) {
        this.#options.logger.warn('forms a cluster with a majority of the replicas, as --form-with-majority says');
      }
      this.#take({ type: 'form_with_majority' });
    });
  }

  /** Takes no part any more. */
  close(reason: Error): void {
    this.#stopMajorityTimer();
    this.#settleIntroduced?.reject(reason);
    for (const answer of this.#answers.values()) answer({ type: 'refuse', reason: 'this replica stops' });
    this.#answers.clear();
  }

  /** All records up to this one are on stable storage. */
  durable(record: number): void {
    this.#take({ type: 'durable', record });
  }

  get may_vote(): boolean {
    return this.#formation.may_vote;
  }

  /** Whether this replica follows its groups without a vote. */
  get joining(): boolean {
    return this.#formation.joining;
  }

  /** Whether it takes part in its groups, with a vote or without. */
  get takes_part(): boolean {
    return this.may_vote || this.joining;
  }

  /** Whether the peer at a place is connected and joins this cluster. */
  joins(place: number): boolean {
    return this.#joiners.has(place);
  }

  /** Peers that are connected and join this cluster. */
  get joiners(): readonly Joiner[] {
    const { replicas } = this.#options;
    return replicas.flatMap((replica) => {
      const birth = this.#joiners.get(replica.id);
      return birth === undefined ? [] : [{ replica, birth }];
    });
  }

  /** The id of this replica in a group in which it votes. */
  idIn(group: number): number {
    return this.#formation.idIn(group);
  }

  /** To be called often while it joins: how the groups' members name it. */
  heedMembers(groups: readonly Named[]): void {
    this.#take({ type: 'named', ids: voterIds(this.birth, groups) });
  }

  /** As whom this replica introduces itself. */
  get birth(): Birth {
    return this.#formation.report.birth;
  }

  /** A group goes on with another one in the place of the birth `told`. */
  replaced(told: Birth): void {
    this.#take({ type: 'rebirth', told, birth: this.#randomBirth(), origin: 'replaced' });
  }

  /** Whether a birth is the one that founded a place of the cluster. */
  isFounder(place: number, birth: Birth): boolean {
    return this.#formation.isFounder(place, birth);
  }

  /** What keeps this replica from voting, for people; empty if nothing does. */
  get obstacle(): string {
    return this.#formation.obstacle;
  }

  report(): Report {
    this.#take({ type: 'position', position: this.#options.position.value });
    return this.#formation.report;
  }

  admit(place: number, report: Report, answer: (admission: Admission) => void): void {
    this.#callers += 1;
    const caller = this.#callers;
    this.#answers.set(caller, answer);
    this.#take({ type: 'hello', caller, place, report });
  }

  welcomed(place: number, report: Report, told: Report): string | null {
    this.#found.set(place, report.birth);
    return this.#objectionTo({ type: 'welcome', place, told, report }, report);
  }

  heard(place: number, report: Report): string | null {
    return this.#objectionTo({ type: 'status', place, report }, report);
  }

  foundOld(_place: number, told: Report): void {
    this.#take({ type: 'rebirth', told: told.birth, birth: this.#randomBirth(), origin: 'old' });
  }

  lost(place: number): void {
    this.#found.delete(place);
    this.#joiners.delete(place);
    this.#take({ type: 'gone', place });
  }

  #newOwn(): OwnRecord {
    const { log, logger, place, replicas } = this.#options;
    const birth = this.#randomBirth();
    if (!holdsGroups(log))
      return { birth, start: 0, origin: 'empty', agreed: null, formed: null, member: null, ids: null };
    logger.info('the data folder was made before clusters kept records of who founded them: this replica is a founder');
    return {
      birth,
      start: 0,
      origin: 'votes',
      agreed: null,
      formed: replicas.map(() => null),
      member: place,
      ids: null,
    };
  }

  #objectionTo(input: FormationInput & { readonly place: number }, { birth, formed, member }: Report): string | null {
    this.#objection = null;
    this.#take(input);
    // Whoever calls from elsewhere is not the one to whom messages for this place go.
    if (this.#found.get(input.place) !== birth) return this.#objection;
    if (this.#objection === null && formed !== null && member === null) this.#joiners.set(input.place, birth);
    else this.#joiners.delete(input.place);
    return this.#objection;
  }

  #take(input: FormationInput): void {
    for (const output of this.#formation.step(input)) this.#perform(output);
  }

  #perform(output: FormationOutput): void {
    const { logger } = this.#options;
    switch (output.type) {
      case 'write':
        this.#options.write(output.record, nodeRecordsOf(output.own, output.peers));
        break;
      case 'answer':
        this.#answer(output.caller, output.verdict);
        break;
      case 'hang_up':
        this.#objection = output.reason;
        break;
      case 'introduce':
        this.#introduce();
        break;
      case 'tell':
        this.#options.onTell();
        break;
      case 'formed':
        logger.info(`this replica is founder ${output.member} of a cluster of ${output.founders.length}`);
        break;
      case 'joining':
        logger.warn(`this replica joins a cluster that exists: ${this.obstacle}`);
        break;
      case 'enrolled':
        logger.info('this replica is a member of all groups, in its own place');
        break;
      case 'may_vote':
        logger.info('this replica takes part in votes');
        this.#options.onMayVote();
        break;
      case 'halt':
        logger.warn('this replica gives up its vote');
        this.#options.onHalt();
        break;
    }
  }

  #introduce(): void {
    if (this.#settleIntroduced === null) {
      this.#options.onReintroduce();
      return;
    }
    this.#settleIntroduced.resolve();
    this.#settleIntroduced = null;
  }

  #answer(caller: number, verdict: Verdict): void {
    const answer = this.#answers.get(caller);
    if (answer === undefined) return;
    this.#answers.delete(caller);
    answer(verdict.type === 'welcome' ? { type: 'welcome', report: this.#formation.report } : verdict);
  }

  #randomBirth(): Birth {
    const { runtime } = this.#options;
    const half = (): string => runtime.seed().toString(16).padStart(8, '0');
    return half() + half();
  }
}
