/** The members of a group in its checkpoints: each configuration as u32 members, u32 bytes, then a roster. Little-endian. */
import { PhxError } from '../errors.js';
import { type Configuration, foundedBy, MEMBERS_DELAY } from './core/members.js';
import { readRoster, rosterBytes } from './core/roster.js';
import { UNNAMED_BIRTH } from './places.js';
import type { Replica } from './replicated_log.js';

const HEAD_BYTES = 8;

/** The configured replicas are the first members of each group. */
export function foundersOf(replicas: readonly Replica[]): Configuration {
  return foundedBy(
    replicas.map(({ id, host, paxos_port }) => {
      return { id, role: 'voter', birth: UNNAMED_BIRTH, host, port: paxos_port, site: '' };
    }),
  );
}

export function encodeConfigurations(configurations: readonly Configuration[]): Uint8Array[] {
  return configurations.flatMap(({ chosen_at, next_id, members }) => {
    const roster = rosterBytes({ based_on: chosen_at, next_id, members });
    const head = new Uint8Array(HEAD_BYTES);
    const view = new DataView(head.buffer);
    view.setUint32(0, members.length, true);
    view.setUint32(4, roster.length, true);
    return [head, roster];
  });
}

/** Throws LOG_CORRUPT if the bytes are no list of configurations. */
export function decodeConfigurations(bytes: Uint8Array): Configuration[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const configurations: Configuration[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length < at + HEAD_BYTES) throw corrupt();
    const end = at + HEAD_BYTES + view.getUint32(at + 4, true);
    const roster =
      end > bytes.length ? null : readRoster(bytes.subarray(at + HEAD_BYTES, end), view.getUint32(at, true));
    if (roster === null) throw corrupt();
    const { based_on: chosen_at, next_id, members } = roster;
    configurations.push({ chosen_at, from: chosen_at === 0 ? 0 : chosen_at + MEMBERS_DELAY, next_id, members });
    at = end;
  }
  if (configurations.length === 0) throw corrupt();
  return configurations;
}

function corrupt(): PhxError {
  return new PhxError('LOG_CORRUPT', 'the members in a checkpoint cannot be read');
}
