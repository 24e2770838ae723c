/** The checks that an Add and a Get have in common: is the request for this store, and does this store lead the queue? */
import type { ReplicatedLog } from '../paxos/replicated_log.js';
import { RetCode } from '../protocol/ret_code.js';
import type { StoreAddress, StoreView } from './store_view.js';

/** Why a request is refused, and where to go instead if that is known. */
export interface Refusal {
  readonly code: RetCode;
  readonly redirect: StoreAddress | null;
}

/** The part of a request that says where it belongs. */
export interface Destination {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
}

/** Checks topic, store and queue. Returns null if all are this store's. */
export function checkDestination(view: StoreView, destination: Destination): Refusal | null {
  if (view.store_id === null) return refusal(RetCode.RANGE_ADDR);
  if (destination.topic_id !== view.topic_id) return refusal(RetCode.RANGE_TOPIC);
  if (destination.store_id !== view.store_id) return refusal(RetCode.RANGE_STORE);
  if (!view.isValidQueue(destination.queue_id)) return refusal(RetCode.RANGE_PUB);
  return null;
}

/** Checks that this replica leads a Paxos group at this moment. Returns null if so. */
export function checkMaster(view: StoreView, log: ReplicatedLog, group: number): Refusal | null {
  const mastership = log.mastership(group);
  if (mastership.role === 'master') return null;
  if (mastership.role === 'unknown') return refusal(RetCode.NO_MASTER);
  const master = log.replicas.find((replica) => replica.id === mastership.master);
  const redirect = master === undefined ? null : view.addressOf(master);
  if (redirect === null) return refusal(RetCode.RANGE_ADDR);
  return { code: RetCode.NOT_MASTER, redirect };
}

/** A refusal without a redirection. */
export function refusal(code: RetCode): Refusal {
  return { code, redirect: null };
}
