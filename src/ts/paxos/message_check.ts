import type { CheckpointHead } from './checkpoint.js';
import type { PeerMessage } from './codec.js';
import { type Ballot, replicaOf } from './core/ballot.js';
import type { AcceptedEntry } from './core/types.js';
import { isAcceptable } from './core/value.js';
import { PART_BYTES } from './snapshot_messages.js';

/** Longest lease that may be asked for, in milliseconds. */
const LEASE_MS_MAX = 3_600_000;

/**
 * What is wrong with a message that no honest peer sends (another's ballot, a value that cannot be applied, times that are
 * none), or null. A replica must neither fail by such a message nor put it on its disk.
 */
export function problemOf(from: number, message: PeerMessage): string | null {
  switch (message.type) {
    case 'prepare':
    case 'release':
    case 'take_over':
      return ballotProblem(from, message.ballot);
    case 'accept':
      return ballotProblem(from, message.ballot) ?? valueProblem(message.value);
    case 'heartbeat':
      return ballotProblem(from, message.ballot) ?? timeProblem(message.sent_at_ms) ?? leaseProblem(message.lease_ms);
    case 'heartbeat_reply':
      return timeProblem(message.sent_at_ms);
    case 'promise':
    case 'learn':
      return entriesProblem(message.entries);
    case 'snapshot_offer':
      return headProblem(message.head);
    case 'snapshot_part':
      return partProblem(message.bytes);
    default:
      return null;
  }
}

function ballotProblem(from: number, ballot: Ballot): string | null {
  return replicaOf(ballot) === from ? null : `a ballot of replica ${replicaOf(ballot)}`;
}

function entriesProblem(entries: readonly AcceptedEntry[]): string | null {
  for (const { value } of entries) if (!isAcceptable(value)) return valueProblem(value);
  return null;
}

function valueProblem(value: Uint8Array): string | null {
  return isAcceptable(value) ? null : `a malformed value of ${value.length} bytes`;
}

function timeProblem(sent_at_ms: number): string | null {
  return Number.isFinite(sent_at_ms) ? null : 'no time of sending';
}

function leaseProblem(lease_ms: number): string | null {
  return lease_ms > 0 && lease_ms <= LEASE_MS_MAX ? null : `a lease of ${lease_ms} ms`;
}

/** The sizes were looked at where the message was read. */
function headProblem({ chain, checksum, state_checksum }: CheckpointHead): string | null {
  return Math.max(chain, checksum, state_checksum) < 2 ** 32 ? null : 'a checksum of more than 32 bits';
}

function partProblem({ length }: Uint8Array): string | null {
  return length > 0 && length <= PART_BYTES ? null : `a part of ${length} bytes`;
}

/** Whether the answer to a message has to be on the disk first. */
export function asksForWrites({ type }: PeerMessage): boolean {
  return type === 'accept' || type === 'learn' || type === 'prepare' || type === 'snapshot_part';
}
