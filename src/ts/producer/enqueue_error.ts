import { type ErrorCode, PhxError } from '../errors.js';
import { RetCode, retCodeName, TransportResult } from '../protocol/ret_code.js';

/** Details of a failed enqueue. */
export interface EnqueueErrorOptions {
  /** The name of the error; by default the one that belongs to `ret`. */
  readonly code?: ErrorCode;
  /** Whether the items may nevertheless be in the queue. */
  readonly outcome_unknown?: boolean;
  readonly cause?: unknown;
}

const CODES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [RetCode.NOT_MASTER, 'NOT_MASTER'],
  [RetCode.NO_MASTER, 'NO_MASTER'],
  [RetCode.SIZE_TOO_LARGE, 'SIZE_TOO_LARGE'],
  [RetCode.PROPOSE_TIMEOUT, 'PROPOSE_TIMEOUT'],
  [RetCode.PROPOSE_FAST_REJECT, 'PROPOSE_FAST_REJECT'],
  [RetCode.RANGE_TOPIC, 'CONFIG'],
  [RetCode.RANGE_PUB, 'CONFIG'],
  [RetCode.RANGE_CNT, 'CONFIG'],
  [RetCode.RANGE_STORE, 'CONFIG'],
  [RetCode.RANGE_QUEUE, 'CONFIG'],
  [RetCode.RANGE_QUEUE_INFO, 'CONFIG'],
  [RetCode.RANGE_CONSUMER_GROUP, 'CONFIG'],
  [RetCode.NQUEUE_INVALID, 'CONFIG'],
]);

const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'NOT_MASTER',
  'NO_MASTER',
  'PROPOSE_TIMEOUT',
  'PROPOSE_FAST_REJECT',
  'RPC_CONNECT',
  'RPC_IO',
  'RPC_TIMEOUT',
]);

/** Negative answers that a store gives before it proposes anything. After any other negative one, who knows. */
const NOTHING_PROPOSED: ReadonlySet<number> = new Set([
  TransportResult.BAD_REQUEST,
  RetCode.ARG,
  RetCode.LOGIC,
  RetCode.UNINIT,
  RetCode.NQUEUE_INVALID,
  RetCode.CHECK_MASTER_FAIL,
  RetCode.MAKE_PAXOSARGS_FAIL,
  RetCode.PROPOSE_FAST_REJECT,
  RetCode.PROTOBUF_PARSE,
  RetCode.SVR_BLOCK,
]);

/** Answers of stores that are about to change: a master is being elected, or a server starts. */
const PASSING: ReadonlySet<number> = new Set([
  RetCode.NOT_MASTER,
  RetCode.NO_MASTER,
  RetCode.NOT_READY,
  RetCode.SVR_BLOCK,
]);

function mayBeProposed(ret: number): boolean {
  const is_range = ret <= RetCode.RANGE && ret >= RetCode.RANGE_VPID;
  return ret < 0 && !is_range && !NOTHING_PROPOSED.has(ret);
}

/**
 * An enqueue that did not succeed. `ret` is the return code of the wire protocol. `outcome_unknown` false: the item is
 * certainly not in the queue, and enqueuing it again is safe. True: it may be, so that doing it again may double it.
 */
export class EnqueueError extends PhxError {
  readonly ret: number;
  readonly outcome_unknown: boolean;

  constructor(ret: number, message: string, options: EnqueueErrorOptions = {}) {
    const code = options.code ?? CODES.get(ret) ?? 'RPC_RESULT';
    super(code, message, { retryable: RETRYABLE.has(code), cause: options.cause });
    this.name = 'EnqueueError';
    this.ret = ret;
    this.outcome_unknown = options.outcome_unknown ?? false;
  }

  /** The error of a store's answer other than OK. */
  static ofAnswer(ret: number, from: string): EnqueueError {
    const message = `${from} answered ${ret} (${retCodeName(ret)})`;
    return new EnqueueError(ret, message, { outcome_unknown: mayBeProposed(ret) });
  }

  /** The error of a call that got no answer; `cause` is what the RPC client threw. */
  static ofNoAnswer(cause: PhxError): EnqueueError {
    const ret = cause.code === 'RPC_TIMEOUT' ? TransportResult.SOCKET_TIMEOUT : RetCode.SYS;
    const outcome_unknown = cause.code !== 'RPC_CONNECT' && cause.code !== 'CONFIG';
    return new EnqueueError(ret, cause.message, { code: cause.code, outcome_unknown, cause });
  }

  /** Whether a wait helps, for a short time such as a change of master takes, and nothing was enqueued. */
  get passing(): boolean {
    return !this.outcome_unknown && (this.code === 'RPC_CONNECT' || PASSING.has(this.ret));
  }

  /** The same error for items of which an earlier try may have been carried out. */
  withOutcomeUnknown(): EnqueueError {
    if (this.outcome_unknown) return this;
    const { code, message, ret, cause } = this;
    return new EnqueueError(ret, message, { code, outcome_unknown: true, cause });
  }
}
