import type { Place, Reporter } from './report.js';

/** Sections of a .conf file: name → key → value. */
export type IniSections = ReadonlyMap<string, ReadonlyMap<string, string>>;

/**
 * Reads a .conf file as the C++ original does: sections `[Name]`, lines `Key = value` with the key in the first column;
 * the value is the first word behind `=`, the first occurrence of a key counts, lines that start with `#` or `;` are
 * comments. Lines that the original would pass over in silence are reported.
 */
export function parseIni(content: string, file: string, report: Reporter): IniSections {
  const sections = new Map<string, Map<string, string>>();
  let name = '';
  for (const [i, line] of content
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    if (/^\s*(?:[#;]|$)/.test(line)) continue;
    const place: Place = { file, key: `line ${i + 1}` };
    const header = /^\[([^\]]*)\]/.exec(line);
    if (header !== null) {
      name = header[1]?.trim() ?? '';
      if (!sections.has(name)) sections.set(name, new Map());
      continue;
    }
    const [, key, value] = /^([^\s=]+)[ \t]*=[ \t]*(\S*)/.exec(line) ?? [];
    if (key === undefined || value === undefined) {
      const fix = 'write "Key = value" from the first column on, or # for a comment';
      report.oversight(place, `${JSON.stringify(line.slice(0, 60))} is not read`, fix);
      continue;
    }
    const section = sections.get(name);
    if (section === undefined)
      report.oversight(place, `${key} stands before any [Section]`, 'move it into its section');
    else if (section.has(key))
      report.oversight(place, `${key} is given again in [${name}]`, 'remove one, the first counts');
    else if (value !== '') section.set(key, value);
  }
  return sections;
}
