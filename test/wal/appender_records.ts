/** What the appender writes, for those who check it. */
export const APPENDER_GROUPS = 3;

/** Entries older than this many numbers are truncated, now and then. */
export const APPENDER_KEPT = 30;

export function appenderBody(number: number): string {
  return `${number} `.repeat(number % 200);
}
