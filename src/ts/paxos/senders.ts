/**
 * Under which member id a message counts. A connection tells place and birth of its other end; the message tells the ids
 * between which it goes. Both have to fit to what the group's members say, so that nothing that one birth says is taken for
 * the word of another, whose place it has.
 */
import type { GroupMessage, PeerMessage } from './codec.js';
import type { Configuration } from './core/members.js';
import { memberBorn, NO_ID, placeOf, UNNAMED_BIRTH } from './places.js';
import type { Birth } from './report.js';

/** Who said it: the other end of the connection. */
export interface Sender {
  readonly place: number;
  readonly birth: Birth;
  /** Its birth is the one that founded its place. */
  readonly founder: boolean;
}

/** The group as it is here. */
export interface Receiver {
  /** Id of this member, NO_ID if it is none. */
  readonly self: number;
  readonly configurations: readonly Configuration[];
}

/** The id of the member that says this to this replica; null if it counts for nobody, or is meant for another. */
export function senderOf(receiver: Receiver, { place, birth, founder }: Sender, said: GroupMessage): number | null {
  const { self, configurations } = receiver;
  const newest = configurations.at(-1);
  if (newest === undefined || !isMeant(self, said)) return null;
  const { from, message } = said;
  if (from === NO_ID) return saysNoVote(message) ? (memberBorn(birth, newest)?.id ?? null) : null;
  if (placeOf(from) !== place) return null;
  // A newcomer that this replica has not heard of yet, or one that is a member no more: the protocol knows what to do.
  const member = configurations
    .findLast(({ members }) => members.some(({ id }) => id === from))
    ?.members.find(({ id }) => id === from);
  if (member === undefined) return from;
  return member.birth === birth || (member.birth === UNNAMED_BIRTH && founder) ? from : null;
}

/** Whether a message was for this member, or is one that it may hear whichever member of its place it was for: it binds nobody. */
function isMeant(self: number, { to, message }: GroupMessage): boolean {
  const { type } = message;
  // Who knows only members of before asks them for votes, and has to hear that it is none any more, or for what is chosen.
  const asks = type === 'pre_vote' || type === 'fetch' || type === 'snapshot_fetch';
  if (self !== NO_ID) return to === self || (asks && placeOf(to) === placeOf(self));
  const chosen = type === 'learn' || type === 'snapshot_offer' || type === 'snapshot_part';
  return chosen || type === 'accept' || type === 'heartbeat';
}

/** What a replica without an id says: nothing in it can be taken for a vote. */
function saysNoVote(message: PeerMessage): boolean {
  const { type } = message;
  return type === 'fetch' || type === 'snapshot_fetch' || (type === 'heartbeat_reply' && !message.granted);
}
