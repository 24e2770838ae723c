/** The proposals whose outcome somebody waits for. */
import { type ErrorCode, PhxError } from '../errors.js';
import type { Refusal } from './core/types.js';
import type { Applied } from './replicated_log.js';

interface Waiter {
  readonly group: number;
  readonly resolve: (applied: Applied) => void;
  readonly reject: (error: PhxError) => void;
}

const REFUSALS: Readonly<Record<Refusal, string>> = {
  NOT_MASTER: 'this replica does not lead the group',
  NO_MASTER: 'no replica is known to lead the group',
  PROPOSE_TIMEOUT: 'not chosen in time; it may still be',
  PROPOSE_FAST_REJECT: 'too many proposals wait',
  SIZE_TOO_LARGE: 'the command exceeds its size limit',
  MEMBERS_PENDING: 'another change of the members is on its way',
  MEMBERS_INVALID: 'the members cannot be changed so',
  MEMBERS_LAGS: 'the replica that shall vote has not caught up',
};

export class Waiters {
  readonly #waiters = new Map<number, Waiter>();
  #proposals = 0;

  /** A new proposal; `applied` settles when `resolve`, `refuse`, `rejectGroup` or `rejectAll` says so. */
  add(group: number): { readonly id: number; readonly applied: Promise<Applied> } {
    this.#proposals += 1;
    const id = this.#proposals;
    const applied = new Promise<Applied>((resolve, reject) => {
      this.#waiters.set(id, { group, resolve, reject });
    });
    return { id, applied };
  }

  resolve(proposal: number, applied: Applied): void {
    this.#take(proposal)?.resolve(applied);
  }

  refuse(proposal: number, reason: Refusal): void {
    this.#take(proposal)?.reject(refusalError(reason));
  }

  /** Those who wait for the outcome of proposals to this group. */
  rejectGroup(group: number, error: PhxError): void {
    for (const [proposal, waiter] of [...this.#waiters]) {
      if (waiter.group === group) this.#take(proposal)?.reject(error);
    }
  }

  rejectAll(error: PhxError): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }

  /** Undefined if it was given up before. */
  #take(proposal: number): Waiter | undefined {
    const waiter = this.#waiters.get(proposal);
    this.#waiters.delete(proposal);
    return waiter;
  }
}

export function refusalError(reason: Refusal): PhxError {
  const code: ErrorCode = reason;
  const retryable = reason !== 'SIZE_TOO_LARGE' && reason !== 'MEMBERS_INVALID';
  return new PhxError(code, REFUSALS[reason], { retryable });
}
