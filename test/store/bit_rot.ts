/** Damage of a store's log at rest, where the log is certain to notice. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shadowGroupOf } from '../../src/ts/paxos/checkpoint.js';
import { type Identity, logIdentity } from '../../src/ts/paxos/identity.js';
import { NODE_GROUP } from '../../src/ts/paxos/node_records.js';
import { RecordKind } from '../../src/ts/wal/engine.js';
import { RECORD_HEADER_BYTES, segmentName, segmentOfName, segmentSeed } from '../../src/ts/wal/format.js';
import { MARKS_NAME } from '../../src/ts/wal/marks.js';
import { type ScannedRecord, scanSegment } from '../../src/ts/wal/segment_scan.js';

export const ROTS = [
  'an entry',
  'a promise',
  'a node record',
  'the header of a record',
  'the header of a segment',
  'the high-water marks',
  'a missing segment',
  'a checkpoint',
] as const;
export type Rot = (typeof ROTS)[number];

const GROUP = 0;

interface Found extends ScannedRecord {
  readonly segment: number;
}

/** Brings it about in the log of a store that does not run. Throws if there is nothing of the kind. */
export async function rot(folder: string, identity: Identity, what: Rot): Promise<void> {
  switch (what) {
    case 'an entry':
      return rotRecord(folder, identity, ({ kind, group }) => kind === RecordKind.entry && group === GROUP);
    case 'a promise':
      return rotRecord(folder, identity, ({ kind, group, instance }) => {
        return kind === RecordKind.state && group === GROUP && instance === 0;
      });
    case 'a node record':
      return rotRecord(folder, identity, ({ group, instance }) => group === NODE_GROUP && instance === 0);
    case 'a checkpoint':
      return rotRecord(folder, identity, ({ group }) => group === shadowGroupOf(GROUP));
    case 'the header of a record':
      return rotRecord(folder, identity, ({ group }) => group === GROUP, 0);
    case 'the header of a segment':
      return flip(join(folder, segmentName(await firstSegment(folder))), 20);
    case 'a missing segment':
      return rm(join(folder, segmentName(await firstSegment(folder))));
    case 'the high-water marks': {
      const path = join(folder, MARKS_NAME);
      return writeFile(
        path,
        (await readFile(path)).map((byte) => byte ^ 1),
      );
    }
  }
}

/** One bit of a file; once more undoes it. */
export async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
}

/** Where the newest record is for which `wanted` holds: path, and the place of its first byte behind the header. */
export async function placeOf(
  folder: string,
  identity: Identity,
  wanted: (record: ScannedRecord) => boolean,
): Promise<{ path: string; at: number }> {
  const found = (await recordsIn(folder, identity)).filter(wanted).at(-1);
  if (found === undefined) throw new Error('the log has no such record');
  return { path: join(folder, segmentName(found.segment)), at: found.offset + RECORD_HEADER_BYTES };
}

async function rotRecord(
  folder: string,
  identity: Identity,
  wanted: (record: ScannedRecord) => boolean,
  at = RECORD_HEADER_BYTES,
): Promise<void> {
  const place = await placeOf(folder, identity, wanted);
  await flip(place.path, place.at - RECORD_HEADER_BYTES + at);
}

async function segmentsIn(folder: string): Promise<number[]> {
  const ids = (await readdir(folder)).map(segmentOfName).filter((id) => id !== null);
  return ids.sort((a, b) => a - b);
}

async function firstSegment(folder: string): Promise<number> {
  const [first] = await segmentsIn(folder);
  if (first === undefined) throw new Error('the log has no segment');
  return first;
}

async function recordsIn(folder: string, identity: Identity): Promise<Found[]> {
  const records: Found[] = [];
  for (const segment of await segmentsIn(folder)) {
    const bytes = await readFile(join(folder, segmentName(segment)));
    const seed = segmentSeed(logIdentity(identity), segment);
    scanSegment(bytes, segment, seed, Number.POSITIVE_INFINITY, (record) => records.push({ ...record, segment }));
  }
  return records;
}
