import type { HandlerResult } from '../handler.js';

/** Takes every item. For load tests. */
export default async function simple(): Promise<HandlerResult> {
  return 'OK';
}
