/** Paths that are taken seldom: a campaign of many seeds that never took one of them has not tested it. */
export const RARE_PATHS: readonly string[] = [
  'a checkpoint is made',
  'a clean restart',
  'a connection is lost',
  'a crash after: accepted',
  'a crash after: heartbeat_reply',
  'a crash after: promise',
  'a crash at a change of names',
  'a crash before a sync',
  'a damaged log is refused',
  'a dead segment is retired',
  'a disk is put back',
  'a disk is wiped',
  'a gap is fetched',
  'a leader applies a value of another leadership',
  'a leader crashes',
  'a leader is divided from another replica',
  'a leader is held back',
  'a leader is silenced',
  'a link is clogged',
  'a log is full',
  'a log is low on space',
  'a master is paused',
  'a replaced disk is put back',
  'a replica stops after its disk failed',
  'a restart from a checkpoint',
  'a retired segment becomes the spare',
  'a sparse segment is rewritten',
  'a start fails',
  'a sync fails',
  'a torn tail is wiped',
  'a value is read from the log',
  'a write fails',
  'all crash after an acknowledgement',
  'all crash at once',
  'an election is won',
  'an instance is indexed again',
  'refused: NOT_MASTER',
  'refused: PROPOSE_FAST_REJECT',
  'refused: PROPOSE_TIMEOUT',
  'restart with values not known to be chosen',
  'the leadership is handed over',
  'the log goes on in another segment',
  'the machine of a master sleeps',
  'whole again after: a damaged disk is emptied',
  'whole again after: a disk is put back',
  'whole again after: a disk is wiped',
  'whole again after: a replaced disk is put back',
];

/** With fewer seeds than this, chance decides what is reached. */
export const SEEDS_TO_REACH_ALL = 100;

/** The paths that were not taken. */
export function neverReached(reached: ReadonlyMap<string, number>): string[] {
  return RARE_PATHS.filter((name) => (reached.get(name) ?? 0) === 0);
}
