import type { IncomingMessage } from 'node:http';
import { ByteCollector } from './byte_collector.js';

/** What became of a body: it is there, or it is more than fits, or its sender went away. */
export type ReceivedBody =
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'overload' }
  | { readonly kind: 'gone' };

/** Length that a request announces for its body, in bytes; null if it does not (chunked). */
export function announcedBytes(request: IncomingMessage): number | null {
  // The parser has checked that it is one number, and that there is no Transfer-Encoding beside it.
  const header = request.headers['content-length'];
  return header === undefined ? null : Number(header);
}

/**
 * Receives a request's body. `reserve` is asked before each piece is kept and says whether there is room for so many
 * bytes. After anything but `complete` nothing of the body is kept.
 */
export function receiveBody(
  request: IncomingMessage,
  body_bytes_max: number,
  reserve: (bytes: number) => boolean,
): Promise<ReceivedBody> {
  const announced = announcedBytes(request);
  return new Promise((resolve) => {
    const collector = new ByteCollector();
    const settle = (received: ReceivedBody): void => {
      request.off('data', onData).off('end', onEnd).off('close', onClose);
      resolve(received);
    };
    const onData = (piece: Buffer): void => {
      if (collector.length + piece.length > body_bytes_max) settle({ kind: 'too_large' });
      else if (!reserve(piece.length)) settle({ kind: 'overload' });
      else collector.add(piece, announced);
    };
    const onEnd = (): void => settle({ kind: 'complete', body: collector.take() });
    const onClose = (): void => settle({ kind: 'gone' });
    request.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}

/**
 * Throws away what is still to come of a request, for at most `within_ms`. Says whether all of it came: a connection
 * that is closed with bytes unread is reset, and the reset can overtake the reply.
 */
export function discardBody(request: IncomingMessage, within_ms: number): Promise<boolean> {
  if (request.readableEnded) return Promise.resolve(true);
  return new Promise((resolve) => {
    const settle = (complete: boolean): void => {
      clearTimeout(timer);
      request.off('end', onEnd).off('close', onClose);
      resolve(complete);
    };
    const timer = setTimeout(() => settle(false), within_ms);
    const onEnd = (): void => settle(true);
    const onClose = (): void => settle(false);
    request.on('end', onEnd).on('close', onClose);
    request.resume();
  });
}
