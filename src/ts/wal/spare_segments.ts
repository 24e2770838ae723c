/**
 * Segment files beside the log: the spare, which the log goes on in when the newest segment is full, and retired ones,
 * which were removed from the log and become spares. A spare has its full size and consists of blocks that were written
 * before: to write over such blocks is faster than to grow a file, and cannot fail for lack of space.
 */
import { join } from 'node:path';
import { assert } from '../errors.js';
import type { LogFile, LogFiles } from './files.js';
import {
  checkSegmentHeader,
  encodeSegmentHeader,
  FORMAT_VERSION,
  retiredSegmentName,
  SEGMENT_HEADER_BYTES,
  segmentName,
  segmentOfRetiredName,
  segmentOfSpareName,
  spareSegmentName,
} from './format.js';

/** Retired files that are kept. */
const RETIRED_MAX = 2;
const FILL_BYTES = 1024 * 1024;
const FILL_SYNC_BYTES = 4 * 1024 * 1024;

const zeros = Buffer.alloc(FILL_BYTES);

interface Spare {
  readonly id: number;
  readonly file: LogFile;
}

export interface SpareOptions {
  readonly folder: string;
  readonly identity: Uint8Array;
  readonly segment_bytes: number;
}

export class SpareSegments {
  private readonly files: LogFiles;
  private readonly options: SpareOptions;
  private spare: Spare | null = null;
  /** Ids in the names of the retired files. */
  private readonly retired: number[] = [];

  constructor(files: LogFiles, options: SpareOptions) {
    this.files = files;
    this.options = options;
  }

  get disk_bytes(): number {
    return (this.retired.length + (this.spare === null ? 0 : 1)) * this.options.segment_bytes;
  }

  has(id: number): boolean {
    return this.spare?.id === id;
  }

  /** Takes over what a former process left: a sound spare for `next`, retired files. Removes what is of no use. */
  async adopt(names: readonly string[], next: number): Promise<void> {
    for (const name of names) {
      const spare = segmentOfSpareName(name);
      const retired = segmentOfRetiredName(name);
      if (spare !== null && (spare !== next || !(await this.adoptSpare(name, spare)))) await this.unlink(name);
      if (retired !== null && !(await this.adoptRetired(name, retired))) await this.unlink(name);
    }
  }

  /** Makes the spare for the segment `id`. Rejects with the error of the file system; then nothing is left behind. */
  async prepare(id: number): Promise<void> {
    assert(this.spare === null, 'one spare at a time');
    const { folder, identity, segment_bytes } = this.options;
    const path = join(folder, spareSegmentName(id));
    const file = await this.openBlank(path);
    try {
      await file.write([encodeSegmentHeader(identity, id, segment_bytes)], 0);
      await file.sync();
    } catch (error) {
      await file.close();
      await this.files.unlink(path);
      throw error;
    }
    this.spare = { id, file };
  }

  /**
   * Makes the spare a segment of the log under its name; durable when this resolves. The caller calls `taken` in the step in
   * which the log goes on in it: until then it is the spare, and no other is prepared.
   */
  async take(id: number): Promise<LogFile> {
    const spare = this.spare;
    assert(spare !== null && spare.id === id, `the spare is segment ${id}`);
    const { folder } = this.options;
    await this.files.rename(join(folder, spareSegmentName(id)), join(folder, segmentName(id)));
    await this.files.syncFolder(folder);
    return spare.file;
  }

  /** The spare is part of the log now. */
  taken(): void {
    assert(this.spare !== null, 'a spare was taken');
    this.spare = null;
  }

  /** Takes the file of a segment that is no longer part of the log, or removes it. Not durable. */
  async retire(id: number, size_bytes: number, reusable: boolean): Promise<void> {
    const name = segmentName(id);
    if (!reusable || size_bytes !== this.options.segment_bytes || this.retired.length >= RETIRED_MAX) {
      await this.unlink(name);
      return;
    }
    const { folder } = this.options;
    await this.files.rename(join(folder, name), join(folder, retiredSegmentName(id)));
    this.retired.push(id);
  }

  async close(): Promise<void> {
    await this.spare?.file.close();
  }

  /** A file of full size, all of whose blocks are written, under the name of a spare. */
  private async openBlank(path: string): Promise<LogFile> {
    const retired = this.retired[0];
    if (retired !== undefined) {
      const old_path = join(this.options.folder, retiredSegmentName(retired));
      const file = await this.files.open(old_path);
      try {
        await this.files.rename(old_path, path);
      } catch (error) {
        await file.close();
        throw error;
      }
      this.retired.shift();
      return file;
    }
    const file = await this.files.create(path);
    try {
      await this.fill(file);
      return file;
    } catch (error) {
      await file.close();
      await this.files.unlink(path);
      throw error;
    }
  }

  private async fill(file: LogFile): Promise<void> {
    const { segment_bytes } = this.options;
    for (let at = 0; at < segment_bytes; ) {
      const bytes = Math.min(FILL_BYTES, segment_bytes - at);
      await file.write([zeros.subarray(0, bytes)], at);
      at += bytes;
      if (at % FILL_SYNC_BYTES === 0 || at === segment_bytes) await file.sync();
    }
  }

  private async adoptSpare(name: string, id: number): Promise<boolean> {
    const file = await this.files.open(join(this.options.folder, name));
    const adopted = await this.makeDurable(file, id).catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    if (adopted) this.spare = { id, file };
    else await file.close();
    return adopted;
  }

  /** False if the file is no sound spare for the segment `id`. */
  private async makeDurable(file: LogFile, id: number): Promise<boolean> {
    const { identity, segment_bytes } = this.options;
    if ((await file.size()) !== segment_bytes) return false;
    const block = Buffer.alloc(SEGMENT_HEADER_BYTES);
    await file.read(block, 0);
    const header = checkSegmentHeader(block, identity, id);
    if (header === null || header.version !== FORMAT_VERSION || header.segment_bytes !== segment_bytes) return false;
    // It may have been read from memory whose sync never came, or failed.
    await file.write([block], 0);
    await file.sync();
    return true;
  }

  private async adoptRetired(name: string, id: number): Promise<boolean> {
    if (this.retired.length >= RETIRED_MAX) return false;
    const file = await this.files.open(join(this.options.folder, name));
    const size_bytes = await file.size().finally(() => file.close());
    const usable = size_bytes === this.options.segment_bytes;
    if (usable) this.retired.push(id);
    return usable;
  }

  private unlink(name: string): Promise<void> {
    return this.files.unlink(join(this.options.folder, name));
  }
}
