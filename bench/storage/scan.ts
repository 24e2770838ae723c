/** What a store has to know of an Add body before it may go into the log, and how each engine finds it out. */
import { scanAddRequest, scanItem } from '../../src/ts/protocol/add_request.js';
import type { EngineName } from './command.js';

export interface ScannedAdd {
  readonly queue_id: number;
  readonly items: number;
  readonly item_bytes: number;
  /** Items of other topics than `topic_id`. */
  readonly strangers: number;
}

/** Throws what the engine throws for a malformed body. */
export type ScanAdd = (body: Uint8Array, topic_id: number) => ScannedAdd;

/** The same walk as in src/ts/store/add.ts. */
function scanInTypeScript(body: Uint8Array, topic_id: number): ScannedAdd {
  const { queue_id, items } = scanAddRequest(body);
  let item_bytes = 0;
  let strangers = 0;
  for (const { start, end } of items) item_bytes += end - start;
  for (const { start, end } of items) if (scanItem(body.subarray(start, end)).topic_id !== topic_id) strangers++;
  return { queue_id, items: items.length, item_bytes, strangers };
}

/** The native engine has no scanner of its own: there too the body is scanned in TypeScript. */
export const SCANS: Readonly<Record<EngineName, ScanAdd>> = { native: scanInTypeScript, portable: scanInTypeScript };
