/**
 * A ballot number: round * 65536 + replica id, so that ballots of two replicas never compare equal and `<` orders them by
 * round first ("Paxos Made Simple", section 2.5). 0 is below every ballot.
 */
export type Ballot = number & { readonly __brand: 'Ballot' };

const REPLICA_RANGE = 65_536;

/** Largest replica id that fits into a ballot. */
export const REPLICA_ID_MAX = REPLICA_RANGE - 1;

export const NO_BALLOT = brand(0);

/** A number read back from disk or wire as a ballot. */
export function ballotFrom(value: number): Ballot {
  return brand(value);
}

export function replicaOf(ballot: Ballot): number {
  return ballot % REPLICA_RANGE;
}

export function roundOf(ballot: Ballot): number {
  return Math.floor(ballot / REPLICA_RANGE);
}

/** The lowest ballot of `replica` above `ballot`. */
export function nextBallot(ballot: Ballot, replica: number): Ballot {
  const round = roundOf(ballot) + 1;
  return brand(round * REPLICA_RANGE + replica);
}

function brand(value: number): Ballot {
  return value as Ballot;
}
