import { type ErrorCode, PhxError } from '../errors.js';
import { RetCode } from '../protocol/ret_code.js';

/** Details of a failed enqueue. */
export interface EnqueueErrorOptions {
  /** The name of the error; by default the one that belongs to `ret`. */
  readonly code?: ErrorCode;
  /** Whether the items may nevertheless be in the queue. */
  readonly outcome_unknown?: boolean;
  readonly cause?: unknown;
}

/** The result of a call that got no answer in time. Part of the wire protocol, not of the list of return codes. */
export const RET_SOCKET_TIMEOUT = -202;

function codeOf(ret: number): ErrorCode {
  switch (ret) {
    case RetCode.NOT_MASTER:
      return 'NOT_MASTER';
    case RetCode.NO_MASTER:
      return 'NO_MASTER';
    case RetCode.SIZE_TOO_LARGE:
      return 'SIZE_TOO_LARGE';
    case RetCode.PROPOSE_TIMEOUT:
      return 'PROPOSE_TIMEOUT';
    case RetCode.PROPOSE_FAST_REJECT:
      return 'PROPOSE_FAST_REJECT';
    case RetCode.RANGE_TOPIC:
    case RetCode.RANGE_PUB:
    case RetCode.RANGE_CNT:
    case RetCode.RANGE_STORE:
    case RetCode.RANGE_QUEUE:
    case RetCode.RANGE_QUEUE_INFO:
    case RetCode.NQUEUE_INVALID:
      return 'CONFIG';
    default:
      return 'RPC_RESULT';
  }
}

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'NOT_MASTER',
  'NO_MASTER',
  'PROPOSE_TIMEOUT',
  'PROPOSE_FAST_REJECT',
  'RPC_CONNECT',
  'RPC_IO',
  'RPC_TIMEOUT',
]);

/**
 * An enqueue that did not succeed. `ret` is the return code of the wire protocol. `outcome_unknown` false: the item is
 * certainly not in the queue, and enqueuing it again is safe. True: it may be, so that doing it again may double it.
 */
export class EnqueueError extends PhxError {
  readonly ret: number;
  readonly outcome_unknown: boolean;

  constructor(ret: number, message: string, options: EnqueueErrorOptions = {}) {
    const code = options.code ?? codeOf(ret);
    super(code, message, { retryable: RETRYABLE.has(code), cause: options.cause });
    this.name = 'EnqueueError';
    this.ret = ret;
    this.outcome_unknown = options.outcome_unknown ?? false;
  }
}
