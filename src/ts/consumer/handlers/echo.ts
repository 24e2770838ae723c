import type { ConsumedItem, HandlerContext, HandlerResult } from '../handler.js';

/** Prints every item, on standard output and into the log. */
export default async function echo(item: ConsumedItem, context: HandlerContext): Promise<HandlerResult> {
  const { consumer_group_id, store_id, queue_id } = context;
  const text = Buffer.from(item.buffer).toString('utf8');
  const line =
    `consume echo "${text}" succeeded! consumer_group_id ${consumer_group_id} store_id ${store_id} ` +
    `queue_id ${queue_id} item_uin ${item.uin}`;
  process.stdout.write(`${line}\n`);
  context.log(line);
  return 'OK';
}
