/** What a store wrote into the body of a record, as plain values. Never fails: says what it does not know. */
import { PhxError } from '../../errors.js';
import { type Ballot, replicaOf, roundOf } from '../../paxos/core/ballot.js';
import { commandsOf, isAcceptable, originOf, rosterOf } from '../../paxos/core/value.js';
import { placeOf } from '../../paxos/places.js';
import { entryOf, stateOf } from '../../paxos/records.js';
import { scanAddRequest, scanItem } from '../../protocol/add_request.js';
import { CommandKind, commandDefect, decodeCommand } from '../../store/command.js';

/** Explains the body of an entry or state record; a part that is not what a store writes becomes `{ unknown: why }`. */
export function explain(kind: string, instance: number, body: Uint8Array): unknown {
  return known(() => (kind === 'state' ? explainState(instance, body) : explainEntry(instance, body)));
}

function explainState(slot: number, body: Uint8Array): unknown {
  const state = stateOf(slot, body);
  if (state === null) return unknown(`state slot ${slot}`);
  return state.type === 'promise' ? { type: state.type, ballot: ballotOf(state.ballot) } : state;
}

function explainEntry(instance: number, body: Uint8Array): unknown {
  const { ballot, chosen_through, value } = entryOf(instance, body);
  if (!Number.isSafeInteger(ballot) || !Number.isSafeInteger(chosen_through)) return unknown('no entry of a store');
  return { ballot: ballotOf(ballot), chosen_through, value: known(() => explainValue(value)) };
}

function explainValue(value: Uint8Array): unknown {
  if (!isAcceptable(value)) return unknown(`${value.length} bytes that no release writes as a value`);
  const origin = ballotOf(originOf(value));
  const roster = rosterOf(value);
  if (roster !== null) return { type: 'members', origin, ...roster };
  const commands = commandsOf(value).map(({ offset, length }) => {
    const command = value.subarray(offset, offset + length);
    return known(() => explainCommand(command));
  });
  return { type: value[0] === 0 ? 'noop' : 'batch', origin, commands };
}

function explainCommand(bytes: Uint8Array): unknown {
  const defect = commandDefect(bytes);
  if (defect !== null) return unknown(defect);
  const command = decodeCommand(bytes);
  if (command.kind === CommandKind.cursors) return { type: 'cursors', updates: command.updates };
  const { timestamp_ms, body } = command;
  const { topic_id, store_id, queue_id, items } = scanAddRequest(body);
  const explained = items.map(({ start, end }) => known(() => explainItem(body.subarray(start, end))));
  return { type: 'add', timestamp_ms, topic_id, store_id, queue_id, items: explained };
}

/** Numbers of 64 bits are strings: JSON readers would round them. */
function explainItem(item: Uint8Array): unknown {
  const { topic_id, pub_id, handle_id, uin, consumer_group_ids, atime, atime_ms, count } = scanItem(item);
  const keys = { topic_id, pub_id, handle_id, uin: String(uin), consumer_group_ids: String(consumer_group_ids) };
  return { ...keys, atime, atime_ms, count, bytes: item.length };
}

function ballotOf(ballot: Ballot): unknown {
  return { number: ballot, round: roundOf(ballot), replica: placeOf(replicaOf(ballot)) };
}

function unknown(why: string): unknown {
  return { unknown: why };
}

function known(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof PhxError) return unknown(error.message);
    throw error;
  }
}
