import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A reply as it came over the wire. */
export interface RawReply {
  readonly status_line: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** A TCP connection that sends bytes as they are and splits what comes back into replies, by their Content-Length. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #closed = new AbortController();
  #received: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    socket.once('close', () => this.#closed.abort());
  }

  static async open(port: number): Promise<RawConnection> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawConnection(socket);
  }

  /** Sends a request in the given pieces and waits for its reply. Throws if the reply has no Content-Length or the connection ends. */
  async exchange(...pieces: readonly Uint8Array[]): Promise<RawReply> {
    for (const piece of pieces) {
      await new Promise<void>((resolve) => this.#socket.write(piece, () => resolve()));
    }
    for (;;) {
      const reply = this.#takeReply();
      if (reply !== null) return reply;
      await once(this.#socket, 'data', { signal: this.#closed.signal });
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #takeReply(): RawReply | null {
    const reply = parseReply(this.#received);
    if (reply === null) return null;
    this.#received = this.#received.subarray(reply.bytes);
    return reply;
  }
}

/** Reads a reply from the beginning of `bytes`, null if it is not complete. `bytes` of the result is its length. */
export function parseReply(bytes: Buffer): (RawReply & { readonly bytes: number }) | null {
  const head_end = bytes.indexOf('\r\n\r\n');
  if (head_end < 0) return null;
  const [status_line = '', ...lines] = bytes.toString('latin1', 0, head_end).split('\r\n');
  const headers = new Map(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const length = headers.get('content-length');
  if (length === undefined) throw new Error(`a reply without Content-Length: ${status_line}`);
  const start = head_end + 4;
  const end = start + Number(length);
  if (bytes.length < end) return null;
  return { status_line, headers, body: bytes.subarray(start, end), bytes: end };
}
