/** What one RPC server takes upon itself. */
export interface RpcLimits {
  /** Connections served at a time. Further ones get PROPOSE_FAST_REJECT; twice as many are closed unheard. */
  readonly connections_max: number;
  /** Requests in work at a time; a further one gets PROPOSE_FAST_REJECT. */
  readonly requests_max: number;
  /** Requests in work at a time of one connection that does not wait for its replies. */
  readonly requests_per_connection_max: number;
  /** Size of a request's body in bytes; a larger one gets `oversize_result`. */
  readonly body_bytes_max: number;
  /**
   * Bytes held at a time for bodies that arrive or are in work and for replies that their clients have not taken.
   * A body that would go beyond gets PROPOSE_FAST_REJECT.
   */
  readonly buffered_bytes_max: number;
  /** How long a request may take to arrive, from its first byte to its last. */
  readonly request_timeout_ms: number;
  /** How long a connection may rest: between two requests, or while its client takes no reply. */
  readonly idle_timeout_ms: number;
  /** How long the rest of a refused body is read and thrown away, so that its sender gets to read the refusal. */
  readonly discard_ms: number;
}

const MEBIBYTE = 1024 * 1024;

export const RPC_LIMITS_DEFAULT: RpcLimits = {
  connections_max: 800_000,
  requests_max: 20_480,
  requests_per_connection_max: 64,
  body_bytes_max: 32 * MEBIBYTE,
  buffered_bytes_max: 256 * MEBIBYTE,
  request_timeout_ms: 30_000,
  idle_timeout_ms: 120_000,
  discard_ms: 2_000,
};

/** Start line and headers of one request, in bytes. */
export const HEADER_BYTES_MAX = 8 * 1024;
