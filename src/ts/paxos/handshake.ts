/**
 * The first bytes on a replica connection: the magic, a u32 length, then a JSON object that says who calls whom. Nothing
 * else is read from a caller before it was checked.
 */
const MAGIC = Buffer.from('PHXPAXOS', 'latin1');
const PROTOCOL_VERSION = 2;
const HEAD_BYTES = MAGIC.length + 4;
const HELLO_BYTES_MAX = 4096;

/** The answer to a caller that is let in: one byte. */
export const WELCOME = Buffer.from([1]);

/** The answer to an empty frame: one byte. */
export const ALIVE = Buffer.from([2]);

/** Longest answer to an introduction. */
export const ANSWER_BYTES_MAX = 4096;

export interface Hello {
  readonly cluster: string;
  readonly from: number;
  readonly to: number;
  readonly groups: number;
}

export function helloBytes(hello: Hello): Buffer {
  // `credentials` is reserved: replicas will prove who they are with it.
  const body = Buffer.from(JSON.stringify({ version: PROTOCOL_VERSION, ...hello, credentials: '' }), 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  return Buffer.concat([MAGIC, length, body]);
}

/** The answer to a caller that is turned away: a zero byte and the reason. */
export function refusalBytes(reason: string): Buffer {
  return Buffer.concat([Buffer.from([0]), Buffer.from(reason, 'utf8')]);
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

function failure(reason: string): HelloResult {
  return { hello: null, reason, rest: Buffer.alloc(0) };
}

function parseHello(text: string): Hello | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return `a malformed introduction (${error instanceof Error ? error.message : 'not JSON'})`;
  }
  if (typeof parsed !== 'object' || parsed === null) return 'a malformed introduction';
  const version = 'version' in parsed ? parsed.version : undefined;
  if (version !== PROTOCOL_VERSION) return `protocol version ${version}, this is ${PROTOCOL_VERSION}`;
  if (!('cluster' in parsed && 'from' in parsed && 'to' in parsed && 'groups' in parsed))
    return 'a malformed introduction';
  const { cluster, from, to, groups } = parsed;
  if (typeof cluster !== 'string' || typeof from !== 'number' || typeof to !== 'number' || typeof groups !== 'number') {
    return 'a malformed introduction';
  }
  return { cluster, from, to, groups };
}
