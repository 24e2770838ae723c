/** Add: checks a request, replicates its bytes as they are, and answers with the cursor of its first item. */
import { assert, PhxError } from '../errors.js';
import type { ReplicatedLog } from '../paxos/replicated_log.js';
import { RetCode } from '../protocol/ret_code.js';
import type { AddCheck, AddChecker } from './add_check.js';
import { checkDestination, checkMaster, type Refusal, refusal } from './admission.js';
import { encodeAdd } from './command.js';
import { type AddResult, groupOfQueue } from './state_machine.js';
import type { StoreView } from './store_view.js';

/** What `addItems` needs. */
export interface AddDependencies {
  readonly view: StoreView;
  readonly log: ReplicatedLog;
  readonly checkAdd: AddChecker;
  /** False while the disk is full: what is left of it serves acknowledgements and retention, so that items can leave. */
  readonly hasSpace: () => boolean;
  /** Wall clock. */
  readonly now_ms: () => number;
}

/** An Add that was done: `first_cursor` is null where the request had no items. */
export interface Added {
  readonly code: typeof RetCode.OK;
  readonly first_cursor: number | null;
  readonly queue_id: number;
  readonly items: number;
  readonly item_bytes: number;
}

/**
 * Adds the items of a request. `body` must not change afterwards. Rejects with PhxError PROTOBUF_PARSE if it is no Add
 * request or holds a malformed item; nothing was proposed then.
 */
export async function addItems(body: Uint8Array, dependencies: AddDependencies): Promise<Added | Refusal> {
  const { view, log, checkAdd, hasSpace, now_ms } = dependencies;
  const check = checkAdd(body, view.topic_id);
  const { queue_id, items, item_bytes } = check;
  if (items === 0) return { code: RetCode.OK, first_cursor: null, queue_id, items, item_bytes: 0 };
  const refused = checkDestination(view, check) ?? checkItems(view, check);
  if (refused !== null) return refused;
  const group = groupOfQueue(queue_id, log.groups);
  const elsewhere = checkMaster(view, log, group);
  if (elsewhere !== null) return elsewhere;
  if (!hasSpace()) return refusal(RetCode.PROPOSE_FAST_REJECT);
  try {
    const { result } = await log.propose(group, encodeAdd(now_ms(), body));
    assert(isAddResult(result) && result.items === items, 'an ADD is applied as it was proposed');
    return { code: RetCode.OK, first_cursor: result.first_cursor, queue_id, items, item_bytes };
  } catch (error) {
    if (!(error instanceof PhxError)) throw error;
    return refusalOf(error, () => checkMaster(view, log, group));
  }
}

function checkItems(view: StoreView, check: AddCheck): Refusal | null {
  const { items, item_bytes, strangers, malformed_at } = check;
  if (items > view.items_max || item_bytes > view.items_byte_size_limit) return refusal(RetCode.SIZE_TOO_LARGE);
  // A malformed item has to be found before a Get meets it.
  if (malformed_at !== null) throw new PhxError('PROTOBUF_PARSE', `malformed item at byte ${malformed_at}`);
  return strangers === 0 ? null : refusal(RetCode.RANGE_TOPIC);
}

function refusalOf(error: PhxError, whoLeads: () => Refusal | null): Refusal {
  switch (error.code) {
    case 'PROPOSE_TIMEOUT':
      return refusal(RetCode.PROPOSE_TIMEOUT);
    case 'PROPOSE_FAST_REJECT':
      return refusal(RetCode.PROPOSE_FAST_REJECT);
    case 'SIZE_TOO_LARGE':
      return refusal(RetCode.SIZE_TOO_LARGE);
    case 'NOT_MASTER':
    case 'NO_MASTER':
      // Nothing was proposed. If this replica leads again by now, the client may just as well ask once more.
      return whoLeads() ?? refusal(RetCode.NO_MASTER);
    default:
      return refusal(RetCode.PROPOSE);
  }
}

function isAddResult(result: unknown): result is AddResult {
  return typeof result === 'object' && result !== null && 'first_cursor' in result && 'items' in result;
}
