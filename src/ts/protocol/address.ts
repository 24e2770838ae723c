import { isIPv4 } from 'node:net';
import { PhxError } from '../errors.js';

/** An address as messages and configuration hold it. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
  readonly paxos_port?: number;
}

/**
 * The number that stands for an address in hash rings and that gives addresses their order: the four bytes of the IP
 * address, the first one lowest, then 16 bits each for port and paxos_port. Throws PhxError CONFIG if `ip` is not a
 * dotted IPv4 address.
 */
export function encodeAddr({ ip, port, paxos_port = 0 }: Endpoint): bigint {
  if (!isIPv4(ip)) throw new PhxError('CONFIG', `${JSON.stringify(ip)} is not a dotted IPv4 address`);
  let bytes = 0;
  for (const [i, byte] of ip.split('.').entries()) bytes += Number(byte) * 256 ** i;
  return (BigInt(bytes) << 32n) | (BigInt(port & 0xffff) << 16n) | BigInt(paxos_port & 0xffff);
}
