// Goal: no flipped bit passes for what was written, none costs more than the records it lies in, and each is reported where it
// matters. Method: logs in memory whose first segment is full and sealed, and which was closed with a half full one; bit after bit
// of the segments and the marks is flipped and the log opened. The ordinary run takes every byte of headers and a part of the rest,
// PHXQUEUE_TEST_FULL=1 every byte.
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type LogEngine, RecordKind, type RecoveryReport } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { Random } from '../sim/random.js';
import {
  append,
  type EngineName,
  engines,
  entry,
  filesOf,
  folderInMemory,
  identity,
  open,
  putFiles,
  state,
  text,
} from './fixture.js';

const FULL = process.env['PHXQUEUE_TEST_FULL'] === '1';
/** Of the bytes outside of headers one in so many is taken. */
const STEP = FULL ? 1 : 97;
const SEGMENT_BYTES = 64 * 1024;
const HEADER_BYTES = 4096;
const SEGMENT_HEADER_USED_BYTES = 56;
const RECORD_HEADER_BYTES = 40;
const SLOT_BYTES = 64 * 1024;
const SEALED = '0000000001.seg';
const ACTIVE = '0000000002.seg';
const SLOTS = 3;
/** Logs that are open at the same time. */
const PARALLEL = 4;

interface Contents {
  readonly recovery: RecoveryReport;
  /** Body, or LOG_CORRUPT, by key. */
  readonly bodies: Map<string, string | null>;
}

interface Flip {
  readonly name: string;
  readonly at: number;
  readonly bit: number;
}

async function contentsOf(log: LogEngine): Promise<Contents> {
  const bodies = new Map<string, string | null>();
  const bounds = log.bounds(1);
  const whole = await log.readRange(1, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER).catch(() => null);
  for (const { instance, body } of whole ?? []) bodies.set(`entry ${instance}`, text(body));
  for (let instance = bounds?.first ?? 1; whole === null && instance <= (bounds?.last ?? 0); instance++) {
    if (log.has(1, instance)) bodies.set(`entry ${instance}`, await log.read(1, instance).then(text, codeOf));
  }
  for (let slot = 0; slot < SLOTS; slot++) {
    try {
      const body = log.state(1, slot);
      if (body !== null) bodies.set(`state ${slot}`, text(body));
    } catch (error) {
      bodies.set(`state ${slot}`, codeOf(error));
    }
  }
  return { recovery: log.recovery, bodies };
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** A log with a full first segment and a second one that was begun, closed. */
async function closedLog(t: ExecutionContext, engine: EngineName): Promise<Map<string, Buffer>> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
  let begun = 0;
  for (let instance = 1; begun < 12; instance++) {
    const body = Buffer.alloc((instance * 97) % 701, `${instance},`);
    await append(
      log,
      entry(1, instance, body),
      ...(instance % 2 === 0 ? [state(1, instance % SLOTS, `${instance}`)] : []),
    );
    if (log.stats().segments > 1) begun++;
  }
  await log.settled();
  await log.close();
  return filesOf(folder);
}

/** Where the headers of a segment are, where its records end, and which of its states have a successor in it. */
function layoutOf(bytes: Buffer): { headers: number[]; end: number; superseded: number[] } {
  const headers: number[] = [];
  const latest = new Map<number, number>();
  const superseded: number[] = [];
  let at = HEADER_BYTES;
  while (bytes.readUInt16LE(at) === 0x5051) {
    headers.push(at);
    if (bytes[at + 2] === RecordKind.state) {
      const slot = bytes.readUInt32LE(at + 8);
      const before = latest.get(slot);
      if (before !== undefined) superseded.push(before);
      latest.set(slot, at);
    }
    at += RECORD_HEADER_BYTES + Math.ceil(bytes.readUInt32LE(at + 16) / 8) * 8;
    if (at + RECORD_HEADER_BYTES > bytes.length) break;
  }
  return { headers, end: at, superseded };
}

/** The bytes of a segment that mean something: not what lies behind the records, nor the body of a dead state. */
function meaningful(bytes: Buffer, isSealed: boolean): (at: number) => boolean {
  const { headers, end, superseded } = layoutOf(bytes);
  const states = headers.filter((header) => bytes[header + 2] === RecordKind.state);
  // All states of the sealed segment have a successor in the next one.
  const dead = (isSealed ? states : superseded).map((header) => ({
    from: header + RECORD_HEADER_BYTES,
    to: header + RECORD_HEADER_BYTES + Math.ceil(bytes.readUInt32LE(header + 16) / 8) * 8,
  }));
  return (at) => at < end && !dead.some(({ from, to }) => at >= from && at < to);
}

function segmentFlips(name: string, bytes: Buffer, random: Random): Flip[] {
  const flips: Flip[] = [];
  const isHeader = new Set<number>(Array.from({ length: SEGMENT_HEADER_USED_BYTES }, (_, at) => at));
  layoutOf(bytes).headers.forEach((header, index) => {
    // Headers are alike: in the ordinary run some of them, the last one (a seal) included.
    const taken = FULL || index % 40 === 0 || index === layoutOf(bytes).headers.length - 1;
    for (let at = header; taken && at < header + RECORD_HEADER_BYTES; at++) isHeader.add(at);
  });
  const eachBit = FULL ? 8 : 2;
  for (let at = 0; at < bytes.length; at++) {
    const bits = isHeader.has(at) ? eachBit : 1;
    if (bits === 1 && (at + name.length) % STEP !== 0) continue;
    const first = random.integer(0, 7);
    for (let bit = 0; bit < bits; bit++) flips.push({ name, at, bit: (first + bit) % 8 });
  }
  return flips;
}

function flipped(files: Map<string, Buffer>, { name, at, bit }: Flip): Map<string, Buffer> {
  const bytes = Buffer.from(files.get(name) ?? []);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
  return new Map([...files, [name, bytes]]);
}

interface Verdicts {
  found: number;
  refused: number;
  harmless: number;
}

/** Opens the log with each of the flips; `matters` says of which byte it must be noticed. */
async function openEach(
  t: ExecutionContext,
  engine: EngineName,
  files: Map<string, Buffer>,
  flips: readonly Flip[],
  matters: (flip: Flip) => boolean,
): Promise<Verdicts> {
  const parent = folderInMemory(t);
  const options = { engine, identity, segment_bytes: SEGMENT_BYTES };
  const look = async (folder: string): Promise<Contents> => {
    const log = await openLog({ ...options, folder });
    try {
      return await contentsOf(log);
    } finally {
      await log.close();
    }
  };
  const whole = await look(putFiles(join(parent, 'whole'), files));
  const verdicts: Verdicts = { found: 0, refused: 0, harmless: 0 };
  let next = 0;
  const worker = async (number: number): Promise<void> => {
    for (let flip = flips[next++]; flip !== undefined; flip = flips[next++]) {
      const folder = putFiles(join(parent, `log ${number}`), flipped(files, flip));
      const problem = await look(folder).then(
        (contents) => judge(whole, contents, matters(flip), verdicts),
        (error: unknown) => {
          verdicts.refused++;
          return ['LOG_CORRUPT', 'LOG_IDENTITY'].includes(codeOf(error)) ? null : `it fails: ${error}`;
        },
      );
      if (problem !== null) t.fail(`${flip.name}, byte ${flip.at}, bit ${flip.bit}: ${problem}`);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, (_, number) => worker(number)));
  return verdicts;
}

/** The most records that one bit costs: its own, and the one behind whose link no longer fits. */
const LOST_MAX = 2;

function judge(whole: Contents, { recovery, bodies }: Contents, matters: boolean, verdicts: Verdicts): string | null {
  const reported = recovery.corrupt.length > 0 || recovery.damaged_marks > 0;
  if (reported) verdicts.found++;
  else verdicts.harmless++;
  if (matters && !reported) return 'not noticed';
  if (recovery.torn_bytes > 0) return `${recovery.torn_bytes} bytes are cut`;
  let lost = 0;
  for (const [key, body] of whole.bodies) {
    const answer = bodies.get(key);
    if (answer === body) continue;
    lost++;
    // An older version of a state may be all that is left when nobody can tell whose record the damaged one is.
    const unknown = recovery.corrupt.some((record) => record.group === null);
    const older = key.startsWith('state') && unknown && answer !== undefined && Number(answer) < Number(body);
    if (answer !== 'LOG_CORRUPT' && !(answer === undefined && unknown) && !older) return `${key} is read as ${answer}`;
  }
  for (const key of bodies.keys()) if (!whole.bodies.has(key)) return `${key} was never written`;
  if (lost > (reported ? LOST_MAX : 0)) return `${lost} records are lost`;
  return null;
}

function describe(flips: readonly Flip[], { found, refused, harmless }: Verdicts, started_ms: number): string {
  const seconds = ((performance.now() - started_ms) / 1000).toFixed(1);
  return `${flips.length} flips: ${found} reported, ${refused} refused to open, ${harmless} without meaning; ${seconds} s`;
}

for (const engine of engines) {
  for (const name of [SEALED, ACTIVE]) {
    const kind = name === SEALED ? 'a full segment' : 'the newest segment of a log that was closed';
    test.serial(`${engine}: each bit of ${kind}, flipped, is found`, async (t) => {
      t.timeout(30 * 60_000);
      const started_ms = performance.now();
      const files = await closedLog(t, engine);
      const bytes = files.get(name) ?? Buffer.alloc(0);
      t.is(bytes.length, SEGMENT_BYTES);
      const { headers, end } = layoutOf(bytes);
      if (name === SEALED)
        t.true(end > SEGMENT_BYTES - 1000 && bytes[(headers.at(-1) ?? 0) + 2] === 3, 'full and sealed');
      const flips = segmentFlips(name, bytes, new Random(7));
      const matters = meaningful(bytes, name === SEALED);
      const verdicts = await openEach(t, engine, files, flips, ({ at }) => matters(at));
      t.is(verdicts.harmless, flips.filter(({ at }) => !matters(at)).length);
      t.log(describe(flips, verdicts, started_ms));
    });
  }

  test.serial(`${engine}: each bit of the marks, flipped, is found or has no meaning`, async (t) => {
    t.timeout(30 * 60_000);
    const started_ms = performance.now();
    const files = await closedLog(t, engine);
    const bytes = files.get('marks') ?? Buffer.alloc(0);
    t.is(bytes.length, 2 * SLOT_BYTES);
    const used = 56 + 4 * bytes.readUInt32LE(12) + 4;
    const flips: Flip[] = [];
    for (let at = 0; at < bytes.length; at++) {
      const matters = at % SLOT_BYTES < used;
      if (!matters && at % (2 * STEP) !== 0) continue;
      for (let bit = 0; bit < (matters ? 8 : 1); bit++) flips.push({ name: 'marks', at, bit: (at + bit) % 8 });
    }
    const verdicts = await openEach(t, engine, files, flips, ({ at }) => at % SLOT_BYTES < used);
    t.is(verdicts.found, 2 * 8 * used);
    t.log(describe(flips, verdicts, started_ms));
  });
}
