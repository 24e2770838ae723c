/**
 * The first bytes on a replica connection, version 3: the magic, a u32 length, then a JSON object that says who calls whom.
 * Nothing else is read from a caller before it was checked. The answer is one byte, and for a caller that is let in a frame
 * with the same about the other side; what follows it is one byte for each status that the caller sends.
 */
import { PhxError } from '../errors.js';
import { FrameReader, frameHead } from './frames.js';
import { type Report, reportFrom } from './report.js';

const MAGIC = Buffer.from('PHXPAXOS', 'latin1');
const PROTOCOL_VERSION = 3;
const HEAD_BYTES = MAGIC.length + 4;
const HELLO_BYTES_MAX = 8192;

/** First byte of the answer to a caller that is let in. */
const WELCOME = 1;
/** First byte of the answer to a caller whose folder is an older copy. */
const OLD_FOLDER = 3;

/** The answer to a status: one byte. */
export const ALIVE = Buffer.from([2]);

/** Longest answer to an introduction. */
export const ANSWER_BYTES_MAX = 8192;

/** Group of a frame's message under which a status travels; no Paxos group has it. */
const STATUS_GROUP = 0xffff_ffff;
const STATUS_HEAD_BYTES = 8;

export interface Hello {
  readonly cluster: string;
  readonly from: number;
  readonly to: number;
  readonly groups: number;
  /** How many replicas the caller's configuration has. */
  readonly replicas: number;
  readonly report: Report;
}

export function helloBytes({ report, ...hello }: Hello): Buffer {
  // `credentials` is reserved: replicas will prove who they are with it.
  const fields = { version: PROTOCOL_VERSION, ...hello, ...report, credentials: '' };
  const body = Buffer.from(JSON.stringify(fields), 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  return Buffer.concat([MAGIC, length, body]);
}

/** The answer to a caller that is let in. */
export function welcomeBytes(report: Report): Buffer {
  const body = Buffer.from(JSON.stringify(report), 'utf8');
  return Buffer.concat([Buffer.from([WELCOME]), frameHead([body]), body]);
}

/** The answer to a caller that is turned away: a byte and the reason. */
export function refusalBytes(reason: string, old_folder: boolean): Buffer {
  return Buffer.concat([Buffer.from([old_folder ? OLD_FOLDER : 0]), Buffer.from(reason, 'utf8')]);
}

export type HelloResult =
  | { readonly hello: Hello; readonly rest: Buffer }
  | { readonly hello: null; readonly reason: string; readonly rest: Buffer };

/** Collects the first bytes of a connection. */
export class HelloReader {
  #bytes: Buffer = Buffer.alloc(0);

  /** The result once it is known, null while bytes are missing. `rest` is what came after the hello. */
  push(chunk: Buffer): HelloResult | null {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    const bytes = this.#bytes;
    const magic = bytes.subarray(0, Math.min(bytes.length, MAGIC.length));
    if (!magic.equals(MAGIC.subarray(0, magic.length))) return failure('not a PhxQueue replica');
    if (bytes.length < HEAD_BYTES) return null;
    const length = bytes.readUInt32LE(MAGIC.length);
    if (length > HELLO_BYTES_MAX) return failure(`an introduction of ${length} bytes`);
    const end = HEAD_BYTES + length;
    if (bytes.length < end) return null;
    const hello = parseHello(bytes.toString('utf8', HEAD_BYTES, end));
    return typeof hello === 'string' ? failure(hello) : { hello, rest: bytes.subarray(end) };
  }
}

export type Answer =
  | { readonly type: 'welcome'; readonly report: Report }
  | { readonly type: 'refused'; readonly old_folder: boolean; readonly reason: string };

/** Collects the answer to an introduction. */
export class AnswerReader {
  readonly #replicas: number;
  readonly #frames = new FrameReader(ANSWER_BYTES_MAX);
  #first: number | null = null;
  #reason: Buffer = Buffer.alloc(0);

  constructor(replicas: number) {
    this.#replicas = replicas;
  }

  /** The welcome once it is whole, null while bytes are missing. Throws PROTOBUF_PARSE if the answer is none. */
  push(chunk: Buffer): (Answer & { type: 'welcome' }) | null {
    const bytes = this.#first === null ? chunk.subarray(1) : chunk;
    this.#first ??= chunk[0] ?? null;
    if (this.#first !== WELCOME) {
      this.#reason = Buffer.concat([this.#reason, bytes]);
      if (this.#reason.length > ANSWER_BYTES_MAX) throw new PhxError('PROTOBUF_PARSE', 'an endless answer');
      return null;
    }
    for (const payload of this.#frames.push(bytes)) {
      const report = reportFrom(parseJson(payload.toString('utf8')), this.#replicas);
      if (report === null) throw new PhxError('PROTOBUF_PARSE', 'a welcome that does not say from whom');
      return { type: 'welcome', report };
    }
    return null;
  }

  /** What the peer said before it hung up, if it refused. */
  refusal(): (Answer & { type: 'refused' }) | null {
    if (this.#first === null || this.#first === WELCOME || this.#reason.length === 0) return null;
    return { type: 'refused', old_folder: this.#first === OLD_FOLDER, reason: this.#reason.toString('utf8') };
  }
}

/** A status as parts of a frame of its own. */
export function statusParts(report: Report): Uint8Array[] {
  const body = Buffer.from(JSON.stringify(report), 'utf8');
  const head = Buffer.alloc(STATUS_HEAD_BYTES);
  head.writeUInt32LE(4 + body.length, 0);
  head.writeUInt32LE(STATUS_GROUP, 4);
  return [head, body];
}

/** The status in a frame, null if the frame holds messages of groups. Throws PROTOBUF_PARSE if it is malformed. */
export function statusIn(frame: Buffer, replicas: number): Report | null {
  if (frame.length < STATUS_HEAD_BYTES || frame.readUInt32LE(4) !== STATUS_GROUP) return null;
  const bounded = frame.length <= HELLO_BYTES_MAX && frame.readUInt32LE(0) === frame.length - 4;
  const report = !bounded ? null : reportFrom(parseJson(frame.toString('utf8', 8)), replicas);
  if (report === null) throw new PhxError('PROTOBUF_PARSE', 'a malformed status');
  return report;
}

function failure(reason: string): HelloResult {
  return { hello: null, reason, rest: Buffer.alloc(0) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseHello(text: string): Hello | string {
  const parsed = parseJson(text);
  if (typeof parsed !== 'object' || parsed === null) return 'a malformed introduction';
  const version = 'version' in parsed ? parsed.version : undefined;
  if (version !== PROTOCOL_VERSION) return versionRefusal(version);
  if (!('cluster' in parsed && 'from' in parsed && 'to' in parsed && 'groups' in parsed && 'replicas' in parsed)) {
    return 'a malformed introduction';
  }
  const { cluster, from, to, groups, replicas } = parsed;
  if (typeof cluster !== 'string' || typeof from !== 'number' || typeof to !== 'number' || typeof groups !== 'number') {
    return 'a malformed introduction';
  }
  const report = typeof replicas === 'number' ? reportFrom(parsed, replicas) : null;
  if (typeof replicas !== 'number' || report === null) return 'a malformed introduction';
  return { cluster, from, to, groups, replicas, report };
}

function versionRefusal(version: unknown): string {
  const older = typeof version === 'number' && version < PROTOCOL_VERSION;
  const meaning = older ? ': the replicas of a store are updated together' : '';
  return `protocol version ${JSON.stringify(version)}, this is ${PROTOCOL_VERSION}${meaning}`;
}
