import test from 'ava';
import { HelloReader, helloBytes } from '../../src/ts/paxos/handshake.js';
import { reportOf } from './sockets.js';

const hello = { cluster: 'test/store/1', from: 2, to: 1, groups: 3, replicas: 3, report: reportOf(2) };

function reasonOf(bytes: Buffer): string | null {
  const result = new HelloReader().push(bytes);
  return result === null || result.hello !== null ? null : result.reason;
}

function withBody(body: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(body));
  return Buffer.concat([helloBytes(hello).subarray(0, 8), length, Buffer.from(body)]);
}

test('an introduction comes through byte by byte, and what follows it is kept', (t) => {
  const bytes = Buffer.concat([helloBytes(hello), Buffer.from('frames')]);
  const reader = new HelloReader();
  const introduction = bytes.length - 'frames'.length;
  for (let at = 0; at < introduction - 1; at += 1) t.is(reader.push(bytes.subarray(at, at + 1)), null);
  const result = reader.push(bytes.subarray(introduction - 1));
  t.deepEqual(result?.hello, hello);
  t.is(result?.rest.toString(), 'frames');
});

test('strangers are refused by their first bytes', (t) => {
  t.is(reasonOf(Buffer.from('GET / HTTP/1.1\r\n')), 'not a PhxQueue replica');
  t.is(reasonOf(Buffer.from('Q')), 'not a PhxQueue replica');
});

test('malformed introductions are refused with a reason', (t) => {
  const huge = Buffer.from(helloBytes(hello));
  huge.writeUInt32LE(1_000_000, 8);
  t.regex(reasonOf(huge) ?? '', /1000000 bytes/);
  t.regex(reasonOf(withBody('{"version":')) ?? '', /malformed/);
  t.regex(reasonOf(withBody('{"version":3}')) ?? '', /malformed/);
  const fields = { version: 3, ...hello, report: undefined, ...hello.report };
  t.is(reasonOf(withBody(JSON.stringify(fields))), null);
  for (const wrong of [
    { cluster: 1 },
    { replicas: '3' },
    { birth: 'no birth' },
    { birth: undefined },
    { start: 0 },
    { run: 7 },
    { position: -1 },
    { member: 0 },
    { agreed: [null, null] },
    { formed: [1, 2, 3] },
  ]) {
    t.regex(reasonOf(withBody(JSON.stringify({ ...fields, ...wrong }))) ?? '', /malformed/, JSON.stringify(wrong));
  }
  t.regex(reasonOf(withBody('{"version":9}')) ?? '', /protocol version 9/);
});
