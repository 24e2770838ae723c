/** What a group begins with in tests of what its log holds. */
import { crc32 } from 'node:zlib';
import { foundersOf } from '../../src/ts/paxos/configurations.js';
import type { Beginning } from '../../src/ts/paxos/records.js';

export const FOUNDERS = foundersOf([1, 2, 3].map((id) => ({ id, host: '127.0.0.1', paxos_port: 5_000 + id })));

export const BEGINNING: Beginning = { founders: FOUNDERS, checksum: crc32 };
