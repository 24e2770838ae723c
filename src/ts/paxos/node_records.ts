/**
 * What a replica keeps of itself and of its peers, as state records of a group of their own in the log: one about itself,
 * one about the others, each a JSON object with a version (docs/on-disk-format.md, "Node records").
 */
import { PhxError } from '../errors.js';
import { type LogEngine, type LogRecord, RecordKind } from '../wal/engine.js';
import type { Origin, OwnRecord } from './formation_types.js';
import type { KnownPeer } from './peer_memory.js';
import { type Birth, foundersFrom, isBirth, isCount } from './report.js';

/** The group of the log that belongs to the replica and not to a Paxos group. */
export const NODE_GROUP = 0xffff_fffe;

const SLOT_OWN = 0;
const SLOT_PEERS = 1;
/** Version 1 knew no members but the founders. */
const VERSION = 2;

const ORIGINS: readonly Origin[] = ['empty', 'votes', 'old', 'replaced', 'damage'];

/** What the log holds of a replica: `own` is null in a log that has no node records. */
export interface NodeRecords {
  readonly own: OwnRecord | null;
  readonly peers: readonly KnownPeer[];
}

/** Both records, for one append. */
export function nodeRecordsOf(own: OwnRecord, peers: readonly KnownPeer[]): LogRecord[] {
  return [stateRecord(SLOT_OWN, { ...own }), stateRecord(SLOT_PEERS, { peers })];
}

/** What a log begins with in the place of a damaged one. */
export function recordsAfterDamage(birth: Birth): LogRecord[] {
  const own = { birth, start: 0, origin: 'damage', agreed: null, formed: null, member: null, ids: null } as const;
  return nodeRecordsOf(own, []);
}

/** Whether the log says whose it is; a log of software that kept no births does not. */
export function hasOwnRecord(log: Pick<LogEngine, 'state'>): boolean {
  return log.state(NODE_GROUP, SLOT_OWN) !== null;
}

/** Reads the records of one of `replicas` replicas. Throws LOG_CORRUPT if they are damaged, LOG_FORMAT if newer software wrote them. */
export function readNodeRecords(log: Pick<LogEngine, 'state' | 'recovery'>, replicas: number): NodeRecords {
  // The log gives back the record before the damaged one: whoever went by it would have forgotten something.
  if (log.recovery.corrupt.some(({ group }) => group === NODE_GROUP)) throw malformed('it is damaged');
  const own = log.state(NODE_GROUP, SLOT_OWN);
  const peers = log.state(NODE_GROUP, SLOT_PEERS);
  return {
    own: own === null ? null : ownFrom(parse(own), replicas),
    peers: peers === null ? [] : peersFrom(parse(peers), replicas),
  };
}

/** Whether Paxos groups have left anything in the log. */
export function holdsGroups(log: Pick<LogEngine, 'groups'>): boolean {
  return log.groups().some((group) => group !== NODE_GROUP);
}

function stateRecord(slot: number, fields: object): LogRecord {
  const body = Buffer.from(JSON.stringify({ version: VERSION, ...fields }), 'utf8');
  return { kind: RecordKind.state, group: NODE_GROUP, instance: slot, body: [body] };
}

function parse(body: Uint8Array): object {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (error) {
    throw new PhxError('LOG_CORRUPT', 'a node record is not JSON', { cause: error });
  }
  if (typeof parsed !== 'object' || parsed === null) throw malformed('no object');
  const version = 'version' in parsed ? parsed.version : undefined;
  if (isCount(version) && version > VERSION) {
    throw new PhxError('LOG_FORMAT', `a node record is of version ${version}, this is ${VERSION}: newer software?`);
  }
  if (version !== VERSION && version !== 1) throw malformed(`version ${String(version)}`);
  return parsed;
}

function ownFrom(parsed: object, replicas: number): OwnRecord {
  if (!('birth' in parsed && 'start' in parsed && 'origin' in parsed)) throw malformed('incomplete');
  if (!('agreed' in parsed && 'formed' in parsed && 'member' in parsed)) throw malformed('incomplete');
  const { birth, start, member } = parsed;
  const origin = ORIGINS.find((known) => known === parsed.origin);
  const agreed = foundersFrom(parsed.agreed, replicas);
  const formed = foundersFrom(parsed.formed, replicas);
  if (agreed === undefined || formed === undefined) {
    const what = 'the founders of this folder are not as many as the configuration has replicas of this store';
    throw new PhxError('CONFIG', `${what} (${replicas}): the replicas of a store cannot be changed in its file`);
  }
  if (!isBirth(birth) || !isCount(start) || origin === undefined) throw malformed('a wrong field');
  if (member !== null && !isCount(member)) throw malformed('a wrong field');
  const ids = idsIn(parsed);
  if (ids === undefined) throw malformed('a wrong field');
  return { birth, start, origin, agreed, formed, member, ids };
}

function peersFrom(parsed: object, replicas: number): KnownPeer[] {
  if (!('peers' in parsed && Array.isArray(parsed.peers))) throw malformed('no peers');
  return parsed.peers.map((peer: unknown) => peerFrom(peer, replicas));
}

function peerFrom(parsed: unknown, replicas: number): KnownPeer {
  if (typeof parsed !== 'object' || parsed === null) throw malformed('a wrong peer');
  if (!('place' in parsed && 'birth' in parsed && 'start' in parsed)) throw malformed('an incomplete peer');
  if (!('run' in parsed && 'position' in parsed)) throw malformed('an incomplete peer');
  const { place, birth, start, run, position } = parsed;
  if (!isCount(place) || place < 1 || place > replicas || !isBirth(birth) || !isCount(start)) {
    throw malformed('a wrong peer');
  }
  if (!isBirth(run) || !isCount(position)) throw malformed('a wrong peer');
  return { place, birth, start, run, position, member: memberIn(parsed, place) };
}

/** In records of version 1 only founders vote, under their place. */
function memberIn(parsed: object, place: number): number | null {
  if ('votes' in parsed && typeof parsed.votes === 'boolean') return parsed.votes ? place : null;
  const member = 'member' in parsed ? parsed.member : undefined;
  if (member !== null && !isCount(member)) throw malformed('a wrong peer');
  return member;
}

/** The ids by group, undefined if there should be some. */
function idsIn(parsed: object): readonly number[] | null | undefined {
  if ('version' in parsed && parsed.version === 1) return null;
  const ids = 'ids' in parsed ? parsed.ids : undefined;
  if (ids === null) return null;
  return Array.isArray(ids) && ids.every((id) => isCount(id) && id >= 1) ? ids : undefined;
}

function malformed(what: string): PhxError {
  return new PhxError('LOG_CORRUPT', `a node record cannot be read: ${what}`);
}
