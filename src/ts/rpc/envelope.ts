/** What surrounds a message on the wire: where a call goes, and where the return code of its reply stands. */

/** Header of a reply that carries the return code, in lower case as both ends look it up. */
export const RESULT_HEADER = 'x-phxrpc-result';
/** The same, as it is written. */
export const RESULT_HEADER_WRITTEN = 'X-PHXRPC-Result';

/** Services that take calls. */
export type RpcService = 'store' | 'lock' | 'scheduler';

/** Path of the URI of a method. */
export function rpcPath(service: RpcService, method: string): string {
  return `/phxqueue_phxrpc/${service}/${method}`;
}
