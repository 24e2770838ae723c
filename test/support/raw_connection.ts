import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A reply as it came over the wire. Header names are in lower case. */
export interface RawReply {
  readonly status_line: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** A connection that sends what it is told, byte for byte, and reads replies that have a Content-Length. */
export class RawConnection {
  readonly socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (piece) => {
      this.#received = Buffer.concat([this.#received, piece]);
      this.#wake();
    });
    // A reset is an end, too.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  static async open(port: number): Promise<RawConnection> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const connection = new RawConnection(socket);
    await once(socket, 'connect');
    return connection;
  }

  send(...pieces: readonly (Uint8Array | string)[]): void {
    for (const piece of pieces) this.socket.write(piece);
  }

  /** The next reply; throws if the connection ends before it is complete, or if it has no Content-Length. */
  async reply(): Promise<RawReply> {
    for (;;) {
      const reply = parseReply(this.#received);
      if (reply !== null) {
        this.#received = this.#received.subarray(reply.bytes);
        return reply;
      }
      if (this.#ended)
        throw new Error(`the connection ended after ${JSON.stringify(this.#received.toString('latin1'))}`);
      await this.#change();
    }
  }

  /** Sends a request in the given pieces and waits for its reply. */
  exchange(...pieces: readonly Uint8Array[]): Promise<RawReply> {
    this.send(...pieces);
    return this.reply();
  }

  close(): void {
    this.socket.destroy();
  }

  /** Resolves once the server has ended the connection; to what it sent and nobody has read. */
  async end(): Promise<string> {
    while (!this.#ended) await this.#change();
    return this.#received.toString('latin1');
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Reads a reply from the beginning of `bytes`, null if it is not complete. `bytes` of the result is its length. */
export function parseReply(bytes: Buffer): (RawReply & { readonly bytes: number }) | null {
  const head_end = bytes.indexOf('\r\n\r\n');
  if (head_end < 0) return null;
  const [status_line = '', ...lines] = bytes.toString('latin1', 0, head_end).split('\r\n');
  const headers = new Map(lines.map((line) => splitHeader(line)));
  // An interim answer (1xx) never has a body.
  const length = / 1\d\d /.test(status_line) ? '0' : headers.get('content-length');
  if (length === undefined) throw new Error(`a reply without Content-Length: ${status_line}`);
  const start = head_end + 4;
  const end = start + Number(length);
  if (bytes.length < end) return null;
  return { status_line, headers, body: bytes.subarray(start, end), bytes: end };
}

function splitHeader(line: string): [string, string] {
  const colon = line.indexOf(':');
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

/** A request as the original's clients write it. */
export function request(
  path: string,
  body: Uint8Array | string,
  headers: readonly string[] = ['Connection: Keep-Alive'],
): Buffer {
  const bytes = Buffer.from(body);
  const lines = [`POST /phxqueue_phxrpc/${path} HTTP/1.0`, ...headers, `Content-Length: ${bytes.length}`, '', ''];
  return Buffer.concat([Buffer.from(lines.join('\r\n')), bytes]);
}
