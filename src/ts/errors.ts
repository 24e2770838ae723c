/**
 * Names of the operating errors that this project raises. Codes of the wire protocol (RetCode) are numbers and live in
 * `protocol/ret_code.ts`; these names are what an embedding program switches on.
 */
export type ErrorCode =
  | 'CONFIG' // a configuration file is missing, malformed or inconsistent
  | 'PROTOBUF_PARSE' // bytes are not the message they should be
  | 'LOG_LOCKED' // another process holds the log folder
  | 'LOG_IDENTITY' // the log folder belongs to another store, replica or cluster
  | 'LOG_CORRUPT' // a record that once was durable can no longer be read
  | 'LOG_FORMAT' // newer software wrote the log; nothing in it is damaged
  | 'LOG_DIVERGED' // this replica has applied other values than a majority; it must not go on
  | 'LOG_POISONED' // a write or sync failed; the log takes no more writes
  | 'LOG_FULL' // the disk has no space for another segment of the log; nothing was appended
  | 'LOG_IO' // an input/output operation failed
  | 'LOG_CLOSED' // the log was closed
  | 'NOT_MASTER' // this replica does not lead the group
  | 'NO_MASTER' // nobody is known to lead the group
  | 'PROPOSE_TIMEOUT' // not chosen in time; the outcome is unknown
  | 'PROPOSE_FAST_REJECT' // too many proposals wait; nothing was proposed
  | 'MEMBERS_PENDING' // another change of the members is on its way
  | 'MEMBERS_INVALID' // the members cannot be changed so
  | 'MEMBERS_LAGS' // the replica that shall vote has not caught up
  | 'SIZE_TOO_LARGE' // a value or item exceeds its limit
  | 'RPC_CONNECT' // the peer could not be reached; nothing was sent
  | 'RPC_IO' // the connection broke; the outcome is unknown if anything was sent
  | 'RPC_TIMEOUT' // no answer in time; the outcome is unknown
  | 'RPC_RESULT' // the server answered with a code other than 0
  | 'ABORTED' // the caller's AbortSignal fired
  | 'CLOSED'; // the component was closed

/** The one base of all operating errors. `retryable` says whether the same call may succeed later, unchanged. */
export class PhxError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'PhxError';
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/**
 * States what must hold; stays on in production. A failed assertion is a bug: the process stops (fail-stop) because the
 * error is never caught below the process level.
 */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new AssertionError(what);
}

/** Thrown by `assert`. Not a PhxError on purpose: nothing may handle it. */
export class AssertionError extends Error {
  constructor(what: string) {
    super(`assertion failed: ${what}`);
    this.name = 'AssertionError';
  }
}
