import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A reply as it came over the wire. Header names are in lower case. */
export interface RawReply {
  readonly start_line: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** A connection that sends what it is told, byte for byte, and reads replies that have a Content-Length. */
export class RawConnection {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
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

  send(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** The next reply; throws if the connection ends before it is complete. */
  async reply(): Promise<RawReply> {
    const head = await this.#take(() => {
      const end = this.#received.indexOf('\r\n\r\n');
      return end === -1 ? null : end + 4;
    });
    const [start_line = '', ...lines] = head.toString('latin1').trimEnd().split('\r\n');
    const headers = new Map(lines.map((line) => splitHeader(line)));
    const length = Number(headers.get('content-length') ?? 0);
    const body = await this.#take(() => (this.#received.length >= length ? length : null));
    return { start_line, headers, body };
  }

  /** Resolves once the server has ended the connection; to what it sent and nobody has read. */
  async end(): Promise<string> {
    while (!this.#ended) await this.#change();
    return this.#received.toString('latin1');
  }

  async #take(length: () => number | null): Promise<Buffer> {
    for (;;) {
      const bytes = length();
      if (bytes !== null) {
        const taken = this.#received.subarray(0, bytes);
        this.#received = this.#received.subarray(bytes);
        return taken;
      }
      if (this.#ended)
        throw new Error(`the connection ended after ${JSON.stringify(this.#received.toString('latin1'))}`);
      await this.#change();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
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
