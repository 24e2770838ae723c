import type { HandlerResult } from '../handler.js';

/** Takes every item. For load tests. */
export default function simple(): HandlerResult {
  return 'OK';
}
