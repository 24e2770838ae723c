/**
 * The members that a members value lists, and how it lies in the value, after the head (value.ts). Little-endian:
 *
 *   0  u64  instance of the members value that it was made from, 0 for the founders
 *   8  u32  next id: no member ever had this one or a higher one
 *  12  for each member: u32 id, u8 role (0 learner, 1 voter), u8 bytes of the host, u8 bytes of the site, u8 zero,
 *      u32 port, u64 birth, then host and site in UTF-8
 */
import { assert } from '../../errors.js';

const HEAD_BYTES = 12;
const MEMBER_HEAD_BYTES = 20;
const TEXT_BYTES_MAX = 255;

export type MemberRole = 'voter' | 'learner';

export interface Member {
  /** Unique in the life of the group, never given twice. */
  readonly id: number;
  readonly role: MemberRole;
  /** Of the folder that it had when it came in: 16 hexadecimal digits. */
  readonly birth: string;
  readonly host: string;
  readonly port: number;
  /** Label of the place where it runs; may be empty. */
  readonly site: string;
}

export interface Roster {
  /** Instance of the members value that this one changes, 0 for the founders. */
  readonly based_on: number;
  readonly next_id: number;
  readonly members: readonly Member[];
}

export function rosterBytes(roster: Roster): Uint8Array {
  const texts = roster.members.map(({ host, site }) => [textBytes(host), textBytes(site)] as const);
  const bytes = texts.reduce((sum, [host, site]) => sum + MEMBER_HEAD_BYTES + host.length + site.length, HEAD_BYTES);
  const body = new Uint8Array(bytes);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, BigInt(roster.based_on), true);
  view.setUint32(8, roster.next_id, true);
  let offset = HEAD_BYTES;
  texts.forEach(([host, site], index) => {
    const member = roster.members[index];
    assert(member !== undefined, 'each member has its texts');
    view.setUint32(offset, member.id, true);
    view.setUint8(offset + 4, member.role === 'voter' ? 1 : 0);
    view.setUint8(offset + 5, host.length);
    view.setUint8(offset + 6, site.length);
    view.setUint32(offset + 8, member.port, true);
    view.setBigUint64(offset + 12, BigInt(`0x${member.birth}`), true);
    body.set(host, offset + MEMBER_HEAD_BYTES);
    body.set(site, offset + MEMBER_HEAD_BYTES + host.length);
    offset += MEMBER_HEAD_BYTES + host.length + site.length;
  });
  assert(offset === bytes, 'the members fill the body exactly');
  return body;
}

/** Reads `count` members, or null if the bytes are no such list. */
export function readRoster(body: Uint8Array, count: number): Roster | null {
  if (body.length < HEAD_BYTES) return null;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const based_on = Number(view.getBigUint64(0, true));
  const members: Member[] = [];
  let offset = HEAD_BYTES;
  for (let index = 0; index < count; index += 1) {
    if (body.length < offset + MEMBER_HEAD_BYTES) return null;
    const host_end = offset + MEMBER_HEAD_BYTES + view.getUint8(offset + 5);
    const site_end = host_end + view.getUint8(offset + 6);
    if (site_end > body.length) return null;
    members.push({
      id: view.getUint32(offset, true),
      role: view.getUint8(offset + 4) === 1 ? 'voter' : 'learner',
      birth: view
        .getBigUint64(offset + 12, true)
        .toString(16)
        .padStart(16, '0'),
      host: textOf(body.subarray(offset + MEMBER_HEAD_BYTES, host_end)),
      port: view.getUint32(offset + 8, true),
      site: textOf(body.subarray(host_end, site_end)),
    });
    offset = site_end;
  }
  const roster = { based_on, next_id: view.getUint32(8, true), members };
  return offset === body.length && isSound(roster) ? roster : null;
}

/** Whether a list of members can govern a group. */
export function isSound({ next_id, members }: Omit<Roster, 'based_on'>): boolean {
  const ids = new Set(members.map(({ id }) => id));
  if (ids.size !== members.length || !members.some(({ role }) => role === 'voter')) return false;
  return members.every(
    ({ id, birth, host, site, port }) =>
      id > 0 &&
      id < next_id &&
      /^[0-9a-f]{16}$/.test(birth) &&
      port < 65_536 &&
      textBytes(host).length <= TEXT_BYTES_MAX &&
      textBytes(site).length <= TEXT_BYTES_MAX,
  );
}

function textBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
