/** `wal_tool dump`: the records as JSON lines. */
import { StringDecoder } from 'node:string_decoder';
import { RecordKind } from '../../wal/engine.js';
import {
  EngineKind,
  emptyHeader,
  FLAG_CONTINUES,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  SEGMENT_HEADER_BYTES,
} from '../../wal/format.js';
import { type FaultyPlace, headersOf } from '../../wal/segment_scan.js';
import type { BodyForm, DumpOptions } from './arguments.js';
import { explain } from './explain.js';
import type { FoundSegment, LogFolder } from './log_folder.js';
import type { Output } from './output.js';

/** Bodies are printed in pieces of this size; a multiple of 3, so that base64 can be put together. */
const PIECE_BYTES = 48 * 1024;

const KIND_NAMES: Readonly<Record<number, string>> = {
  [RecordKind.entry]: 'entry',
  [RecordKind.state]: 'state',
  [EngineKind.seal]: 'seal',
  [EngineKind.mark]: 'mark',
};

/**
 * Prints the records that are asked for, until nobody reads any more. Returns the segments that were removed before
 * they could be read.
 */
export async function dump(folder: LogFolder, options: DumpOptions, output: Output): Promise<number[]> {
  const gone: number[] = [];
  for (const id of folder.segments.ids) {
    if (output.closed) break;
    const found = await folder.scan(id, () => undefined);
    if (found === null) gone.push(id);
    else await dumpSegment(found, options, output);
  }
  return gone;
}

async function dumpSegment(found: FoundSegment, options: DumpOptions, output: Output): Promise<void> {
  const { id, bytes, seed, scan } = found;
  const header = emptyHeader();
  const places = scan.corrupt.filter(({ fault }) => fault === 'header' || fault === 'no seal');
  const damaged = new Set(scan.corrupt.map(({ offset }) => offset));
  let next = 0;
  const putPlacesBefore = async (end: number): Promise<void> => {
    if (!everythingIsWanted(options)) return;
    for (let place = places[next]; place !== undefined && place.offset < end; place = places[++next]) {
      await output.line(placeLine(place));
    }
  };
  for (const at of headersOf(bytes, seed, SEGMENT_HEADER_BYTES, scan.end + scan.torn_bytes, header)) {
    await putPlacesBefore(at);
    if (output.closed) return;
    if (!isWanted(header, options)) continue;
    const status = damaged.has(at) ? 'damaged' : at < scan.end ? 'sound' : 'torn';
    const start = at + RECORD_HEADER_BYTES;
    const body = bytes.subarray(start, start + header.body_bytes);
    await putRecord(recordOf(id, at, header, status), body, options, output);
  }
  await putPlacesBefore(Number.POSITIVE_INFINITY);
}

function everythingIsWanted({ kind, group, from, through }: DumpOptions): boolean {
  return kind === 'all' && group === null && from === 0 && through === Number.MAX_SAFE_INTEGER;
}

/** Whether a record has a key: seals and marks have none. */
function isKeyed(kind: number): boolean {
  return kind === RecordKind.entry || kind === RecordKind.state;
}

function isWanted(header: RecordHeader, options: DumpOptions): boolean {
  if (!isKeyed(header.kind)) return everythingIsWanted(options);
  const { kind, group, from, through } = options;
  const right_kind = kind === 'all' || header.kind === RecordKind[kind];
  return (
    right_kind && (group === null || header.group === group) && header.instance >= from && header.instance <= through
  );
}

function placeLine({ segment, offset, fault }: FaultyPlace): string {
  const nothing = { group: null, instance: null, bytes: null, flags: null, body_crc: null };
  return JSON.stringify({ segment, offset, kind: null, ...nothing, status: 'damaged', fault });
}

interface DumpedRecord {
  readonly segment: number;
  readonly offset: number;
  readonly kind: string;
  readonly group: number | null;
  readonly instance: number | null;
  readonly bytes: number;
  readonly flags: readonly string[];
  readonly body_crc: string;
  readonly status: string;
}

function recordOf(segment: number, offset: number, header: RecordHeader, status: string): DumpedRecord {
  const { kind, body_bytes, body_crc } = header;
  const { group, instance } = isKeyed(kind) ? header : { group: null, instance: null };
  const flags = (header.flags & FLAG_CONTINUES) === 0 ? [] : ['continues'];
  const crc = body_crc.toString(16).padStart(8, '0');
  const name = KIND_NAMES[kind] ?? String(kind);
  return { segment, offset, kind: name, group, instance, bytes: body_bytes, flags, body_crc: crc, status };
}

async function putRecord(record: DumpedRecord, body: Buffer, options: DumpOptions, output: Output): Promise<void> {
  const { kind, instance, status } = record;
  const explains = options.decode && instance !== null && status !== 'damaged';
  const decoded = explains ? { decoded: explain(kind, instance, body) } : {};
  const line = JSON.stringify({ ...record, ...decoded });
  if (options.bodies === 'none' || instance === null) {
    await output.line(line);
    return;
  }
  await output.put(`${line.slice(0, -1)},"body":"`);
  for (const piece of piecesOf(body, options.bodies)) await output.put(piece);
  await output.line('"}');
}

/** A body as the inside of a JSON string, in pieces. */
function* piecesOf(body: Buffer, form: BodyForm): Generator<string, void, void> {
  const decoder = new StringDecoder('utf8');
  const quoted = (text: string): string => JSON.stringify(text).slice(1, -1);
  for (let at = 0; at < body.length; at += PIECE_BYTES) {
    const piece = body.subarray(at, at + PIECE_BYTES);
    if (form === 'text') yield quoted(decoder.write(piece));
    else yield piece.toString(form === 'hex' ? 'hex' : 'base64');
  }
  if (form === 'text') yield quoted(decoder.end());
}
