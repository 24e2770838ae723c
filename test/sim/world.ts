/** What all parts of a simulation share: time, chance, the network, and those who watch. */
import { createHash, type Hash } from 'node:crypto';
import { Checker, Violation } from './checker.js';
import { drawPlan, type Plan } from './faults.js';
import type { Machine } from './machine.js';
import { SimNetwork } from './network.js';
import { Random } from './random.js';
import { CursorCheck } from './state_check.js';
import { Timeline } from './timeline.js';

export class World {
  readonly seed: number;
  readonly timeline = new Timeline();
  readonly random: Random;
  readonly plan: Plan;
  readonly network: SimNetwork;
  /** One for each group. */
  readonly checkers: readonly Checker[];
  readonly cursors: readonly CursorCheck[];
  readonly reached = new Map<string, number>();
  /** The first thing that went wrong. */
  failure: Error | null = null;
  machines: readonly Machine[] = [];
  /** The second phase: nothing goes wrong any more. */
  healing = false;
  readonly #hash: Hash = createHash('sha256');
  readonly #onTrace: ((line: string) => void) | null;

  constructor(seed: number, onTrace: ((line: string) => void) | null) {
    this.seed = seed;
    this.#onTrace = onTrace;
    this.random = new Random(seed);
    this.plan = drawPlan(this.random);
    this.network = new SimNetwork(this.timeline, this.random, this.plan.faults, (line) => this.trace(line));
    const groups = Array.from({ length: this.plan.groups }, (_, group) => group);
    const now = (): number => this.timeline.now_ms;
    this.checkers = groups.map(() => new Checker(now));
    this.cursors = groups.map(() => new CursorCheck(now));
  }

  checker(group: number): Checker {
    const checker = this.checkers[group];
    if (checker === undefined) throw new RangeError(`there is no group ${group}`);
    return checker;
  }

  cursorCheck(group: number): CursorCheck {
    const check = this.cursors[group];
    if (check === undefined) throw new RangeError(`there is no group ${group}`);
    return check;
  }

  /** A fault of this probability happens now. */
  strikes(probability: number): boolean {
    return !this.healing && probability > 0 && this.random.chance(probability);
  }

  /**
   * Only a minority may lose what it said, and not before the cluster has formed: that would never end. One that still lacks part
   * of a state counts, too: it takes no part, as /readyz says (docs/operations.md).
   */
  mayLoseDisk(machine: Machine): boolean {
    const others = this.machines.filter((other) => other !== machine);
    const impaired = others.filter((other) => other.damaged || other.stands_still || other.impaired !== null).length;
    return this.machines.every(({ voted }) => voted) && 2 * (impaired + 1) < this.machines.length;
  }

  /** An older copy is found out only by those who remember more: here all others that vote do (docs/internals/forming.md). */
  mayRestoreCopy(machine: Machine): boolean {
    const remembers = (other: Machine): boolean => other.impaired !== null || machine.isCopyKnown(other.id);
    return this.mayLoseDisk(machine) && this.machines.every((other) => other === machine || remembers(other));
  }

  /** A path was taken that a campaign must have taken. */
  sometimes(name: string): void {
    this.reached.set(name, (this.reached.get(name) ?? 0) + 1);
  }

  trace(line: string): void {
    const text = `${this.timeline.now_ms.toFixed(3)} ${line}`;
    this.#hash.update(text);
    this.#onTrace?.(text);
  }

  traceHash(): string {
    return this.#hash.copy().digest('hex');
  }

  report(error: unknown): void {
    this.failure ??= error instanceof Error ? error : new Error(String(error));
  }

  violation(what: string): void {
    this.report(new Violation(this.timeline.now_ms, what));
  }

  /** Runs what may find a violation. */
  guard(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.report(error);
    }
  }
}
