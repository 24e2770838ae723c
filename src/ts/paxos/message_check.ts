import { type Ballot, replicaOf } from './core/ballot.js';
import type { AcceptedEntry, Message } from './core/types.js';
import { isAcceptable } from './core/value.js';

/** Longest lease that may be asked for, in milliseconds. */
const LEASE_MS_MAX = 3_600_000;

/**
 * What is wrong with a message that no honest peer sends (another's ballot, a value that cannot be applied, times that are
 * none), or null. A replica must neither fail by such a message nor put it on its disk.
 */
export function problemOf(from: number, message: Message): string | null {
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

/** Whether the answer to a message has to be on the disk first. */
export function asksForWrites({ type }: Message): boolean {
  return type === 'accept' || type === 'learn' || type === 'prepare';
}
