/** Ports, raw peers and patience for tests over real sockets. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HelloReader, welcomeBytes } from '../../src/ts/paxos/handshake.js';
import type { Report } from '../../src/ts/paxos/report.js';
import type { Introductions } from '../../src/ts/paxos/transport.js';

export const HOST = '127.0.0.1';
const POLL_MS = 10;
const WITHIN_MS = 20_000;

export async function until<T>(find: () => T | undefined): Promise<T> {
  const deadline_ms = performance.now() + WITHIN_MS;
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    if (performance.now() > deadline_ms) throw new Error(`not within ${WITHIN_MS} ms`);
    await delay(POLL_MS);
  }
}

export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  const ports: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const server = createServer().listen(0, HOST);
    await once(server, 'listening');
    ports.push(portOf(server));
    servers.push(server);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function portOf(server: Server): number {
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('not listening');
  return address.port;
}

/** What a fresh replica says of itself; `seed` makes its birth. */
export function reportOf(seed: number, change: Partial<Report> = {}): Report {
  const birth = seed.toString(16).padStart(16, '0');
  const fresh = { birth, start: 1, run: birth, position: 0, agreed: null, formed: null, member: null };
  return { ...fresh, ...change };
}

/** Lets every caller in. */
export function openDoor(replica: number): Introductions {
  return {
    report: () => reportOf(replica),
    admit: (_place, _report, answer) => answer({ type: 'welcome', report: reportOf(replica) }),
    welcomed: () => null,
    foundOld: () => undefined,
    heard: () => null,
    lost: () => undefined,
  };
}

/** A peer that lets every caller in and then does nothing; `sockets` are the callers let in so far. */
export async function silentPeer(port: number): Promise<{ sockets: Socket[]; close(): Promise<void> }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    const hello = new HelloReader();
    const onData = (chunk: Buffer): void => {
      if (hello.push(chunk) === null) return;
      socket.off('data', onData);
      socket.pause();
      socket.write(welcomeBytes(reportOf(9)));
      sockets.push(socket);
    };
    socket.on('data', onData);
  });
  server.listen(port, HOST);
  await once(server, 'listening');
  return {
    sockets,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
