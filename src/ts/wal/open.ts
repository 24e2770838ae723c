/** Chooses the log engine. */
import type { LogEngine, LogOptions } from './engine.js';
import { openNative } from './native.js';
import { loadNative } from './native_binding.js';
import { openPortable } from './portable.js';

/** `auto` is the native engine where its addon loads, else the portable one. */
export type EngineChoice = 'auto' | 'native' | 'portable';

export interface OpenLogOptions extends LogOptions {
  readonly engine: EngineChoice;
}

/**
 * Opens the log of a folder.
 *
 * @throws PhxError LOG_LOCKED, LOG_IDENTITY, LOG_FORMAT (newer software wrote it), LOG_IO; CONFIG for `native` without addon
 */
export async function openLog(options: OpenLogOptions): Promise<LogEngine> {
  const { engine, ...rest } = options;
  const native = engine === 'native' || (engine === 'auto' && nativeAvailable().available);
  return native ? openNative(rest) : openPortable(rest);
}

/** Whether the native engine can be used, and if not, why (else an empty reason). */
export function nativeAvailable(): { available: boolean; reason: string } {
  const native = loadNative();
  return 'reason' in native ? { available: false, reason: native.reason } : { available: true, reason: '' };
}
