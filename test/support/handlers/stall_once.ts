import { existsSync, writeFileSync } from 'node:fs';
import type { ConsumedItem, HandlerContext, HandlerResult } from '../../../src/ts/consumer/handler.js';

/** An item whose text is a path keeps its handler busy for ever, unless that file is there; the first time it makes it. */
export default async function stallOnce(item: ConsumedItem, context: HandlerContext): Promise<HandlerResult> {
  const text = Buffer.from(item.buffer).toString();
  if (text.startsWith('/') && !existsSync(text)) {
    writeFileSync(text, '');
    context.log(`stalls ${process.pid}`);
    return await new Promise<never>(() => undefined);
  }
  context.log(`handled ${text}`);
  return 'OK';
}
