/**
 * The log of a store and its place in the data folder. A damaged log is set aside there under another name, and one begins in
 * its place whose replica joins anew; nothing is deleted. The order is the crash rule: the new log is whole and says what it is
 * before the damaged one loses its name, so a start finds a log, or one that only lacks its name (docs/operations.md).
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PhxError } from '../errors.js';
import { appendDurably } from '../paxos/checkpoint_store.js';
import { recordsAfterDamage } from '../paxos/node_records.js';
import type { LogEngine } from '../wal/engine.js';
import type { LogFiles } from '../wal/files.js';
import { NodeFiles } from '../wal/node_files.js';
import { LOG_FOLDER } from './log_folder.js';

/** A log in the making, in the place of a damaged one. */
export const NEW_LOG_FOLDER = 'log.new';
const SET_ASIDE = /^log\.damaged-\d{8}T\d{6}Z$/;

export interface LogHomeOptions {
  readonly data_dir: string;
  /** Opens the log of a folder. */
  readonly open: (folder: string) => Promise<LogEngine>;
  /** Whether a damaged log may be set aside. */
  readonly may_set_aside: boolean;
  readonly logger: { warn(message: string): void; error(message: string): void };
  /** Those of this machine by default. */
  readonly files?: LogFiles;
}

/** See the head of this file. */
export class LogHome {
  readonly #options: LogHomeOptions;
  readonly #files: LogFiles;
  #log: LogEngine | null = null;
  #set_aside: string | null = null;

  constructor(options: LogHomeOptions) {
    this.#options = options;
    this.#files = options.files ?? new NodeFiles();
  }

  /** The folder of the log that was set aside, null if there is none. */
  get set_aside(): string | null {
    return this.#set_aside !== null && existsSync(this.#set_aside) ? this.#set_aside : null;
  }

  /** Opens the log; sets a damaged one aside. Throws LOG_* and what the files throw. */
  async open(): Promise<LogEngine> {
    try {
      return await this.#open();
    } catch (error) {
      if (!isDamage(error)) throw error;
      return this.setAside(error);
    }
  }

  /**
   * Sets the log aside because of this damage, and opens another one. Throws LOG_CORRUPT where that is switched off or was done
   * before, LOG_LOCKED, LOG_IO.
   */
  async setAside(damage: PhxError): Promise<LogEngine> {
    if (!this.#options.may_set_aside) throw damage;
    await this.close();
    try {
      await this.#exchange(damage);
    } catch (cause) {
      if (cause instanceof PhxError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `the log is damaged (${damage.message}), and cannot be set aside: ${reason}`;
      throw new PhxError('LOG_IO', message, { cause });
    }
    return this.#open();
  }

  /** Closes the log that is open. */
  async close(): Promise<void> {
    const log = this.#log;
    this.#log = null;
    await log?.close();
  }

  async #open(): Promise<LogEngine> {
    const { data_dir, logger } = this.#options;
    const names = await this.#files.list(data_dir);
    if (!names.includes(LOG_FOLDER) && names.includes(NEW_LOG_FOLDER)) await this.#moveIn();
    const [found] = names.filter((name) => SET_ASIDE.test(name));
    this.#set_aside = found === undefined ? null : join(data_dir, found);
    const log = await this.#options.open(join(data_dir, LOG_FOLDER));
    this.#log = log;
    if (this.#set_aside === null) return log;
    logger.warn(
      `${this.#set_aside} holds a damaged log that was set aside: once this replica is ready nothing needs it, so delete it; ` +
        'while it is there, no other one is set aside',
    );
    // Whoever took the new log away did not undo the damage.
    if (log.groups().length === 0) await begin(log);
    return log;
  }

  async #exchange(damage: PhxError): Promise<void> {
    const { data_dir, logger } = this.#options;
    const folder = join(data_dir, LOG_FOLDER);
    // Nobody else may take it for a log meanwhile.
    const lock = await this.#files.lockFolder(folder);
    try {
      const names = await this.#files.list(data_dir);
      const earlier = names.find((name) => SET_ASIDE.test(name));
      if (earlier !== undefined) throw refusal(damage, join(data_dir, earlier));
      await this.#makeNew(names.includes(NEW_LOG_FOLDER));
      const set_aside = join(data_dir, `log.damaged-${timestamp(new Date())}`);
      await this.#files.rename(folder, set_aside);
      await this.#files.syncFolder(data_dir);
      await this.#moveIn();
      logger.error(
        `THE LOG WAS DAMAGED (${damage.message}). It is set aside as ${set_aside}, nothing of it is deleted. This replica joins ` +
          'its cluster anew, and has no vote until it has caught up: do not stop another one meanwhile, and look at the disk',
      );
    } finally {
      await lock.release();
    }
  }

  /** Makes the new log, whole and closed. What a crash left of one never said anything. */
  async #makeNew(leftover: boolean): Promise<void> {
    const folder = join(this.#options.data_dir, NEW_LOG_FOLDER);
    if (leftover) {
      for (const name of await this.#files.list(folder)) await this.#files.unlink(join(folder, name));
    }
    const log = await this.#options.open(folder);
    try {
      await begin(log);
    } finally {
      await log.close();
    }
  }

  async #moveIn(): Promise<void> {
    const { data_dir } = this.#options;
    await this.#files.rename(join(data_dir, NEW_LOG_FOLDER), join(data_dir, LOG_FOLDER));
    await this.#files.syncFolder(data_dir);
  }
}

/** Whether an error says that a log is damaged. */
export function isDamage(error: unknown): error is PhxError {
  return error instanceof PhxError && error.code === 'LOG_CORRUPT';
}

function begin(log: LogEngine): Promise<void> {
  return appendDurably(log, recordsAfterDamage(randomBytes(8).toString('hex')));
}

function refusal(damage: PhxError, earlier: string): PhxError {
  const message =
    `${damage.message}; it is not set aside, because ${earlier} is still there from earlier damage: look at the disk, and if ` +
    'all other replicas are ready, delete that folder and start again';
  return new PhxError('LOG_CORRUPT', message, { cause: damage });
}

/** For example 20260131T235959Z. */
function timestamp(date: Date): string {
  return date.toISOString().replace(/[-:]|\.\d+/g, '');
}
