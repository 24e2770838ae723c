/** Rounds in which the subjects take turns, so that the drift of the machine's speed meets all alike. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../../src/ts/errors.js';
import type { Figures, Subject } from './command.js';
import { medians } from './figures.js';
import { MeasuredProcess } from './process.js';

/** The figures of each round, by subject. */
export type Rounds<K extends string> = ReadonlyMap<Subject, readonly Figures<K>[]>;

/** Measures each subject once in every round; each round begins with another one. */
export async function inRounds<S extends Subject, K extends string>(
  rounds: number,
  subjects: readonly S[],
  measure: (subject: S, round: number) => Promise<Figures<K>>,
): Promise<Rounds<K>> {
  const found = new Map<Subject, Figures<K>[]>();
  for (const subject of subjects) found.set(subject, []);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < subjects.length; turn++) {
      const subject = subjects[(turn + round) % subjects.length];
      assert(subject !== undefined, 'each turn has its subject');
      found.get(subject)?.push(await measure(subject, round));
    }
  }
  return found;
}

/** One figure of a subject in all rounds; empty if it was not measured. */
export function column<K extends string>(rounds: Rounds<K>, subject: Subject, key: K): number[] {
  return (rounds.get(subject) ?? []).map((figures) => figures[key]);
}

/** Medians of a subject, or null if it was not measured. */
export function mediansOf<K extends string>(
  rounds: Rounds<K>,
  subject: Subject,
  keys: readonly K[],
): Figures<K> | null {
  const figures = rounds.get(subject);
  return figures === undefined || figures.length === 0 ? null : medians(figures, keys);
}

/** The processes of the subjects, each in a folder of its own below `folder`. */
export class Processes {
  private readonly folder: string;
  private readonly bySubject = new Map<Subject, MeasuredProcess>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Runs `use` with one process for each subject, and ends them. */
  static async with<T>(
    folder: string,
    subjects: readonly Subject[],
    profile: string | null,
    use: (processes: Processes) => Promise<T>,
  ): Promise<T> {
    const processes = new Processes(folder);
    try {
      for (const subject of subjects) processes.bySubject.set(subject, new MeasuredProcess(profile));
      return await use(processes);
    } finally {
      for (const one of processes.bySubject.values()) await one.end();
    }
  }

  of(subject: Subject): MeasuredProcess {
    const found = this.bySubject.get(subject);
    assert(found !== undefined, `${subject} has a process`);
    return found;
  }

  /** Opens a log for each subject, and brings it to where it is after running for a while. */
  async openPrimed(segment_bytes: number): Promise<void> {
    for (const [subject, one] of this.bySubject) {
      const folder = join(this.folder, subject);
      await mkdir(folder);
      await one.ask({ task: 'open', subject, folder, segment_bytes, sync: true });
      if (subject !== 'limit') await one.ask({ task: 'prime' });
    }
  }

  async close(): Promise<void> {
    for (const one of this.bySubject.values()) await one.ask({ task: 'close' });
  }
}
