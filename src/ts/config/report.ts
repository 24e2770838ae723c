import { PhxError } from '../errors.js';

/** A spot in a configuration file: `key` is a path such as `stores[0].addrs[1].port`, empty for the file itself. */
export interface Place {
  readonly file: string;
  readonly key: string;
}

/** Takes what is found wrong in configuration files. */
export interface Reporter {
  /** What cannot be worked with. */
  error(place: Place, what: string, fix: string): void;
  /** What a running program can live with, but a check must not let pass: an unknown key, an id given twice. */
  oversight(place: Place, what: string, fix: string): void;
  /** What is legal and still probably not meant. */
  warning(place: Place, what: string, fix: string): void;
}

/** The one line that says what is wrong: `file: key: what; fix`. */
export function problemLine({ file, key }: Place, what: string, fix: string): string {
  return `${file}: ${key === '' ? '' : `${key}: `}${what}; ${fix}`.replaceAll(/\s*[\r\n]+\s*/g, ' ');
}

/** The PhxError CONFIG of a problem. */
export function configError(place: Place, what: string, fix: string): PhxError {
  return new PhxError('CONFIG', problemLine(place, what, fix));
}

/** For programs that run: the first error throws PhxError CONFIG, everything else goes to `onWarning` as one line. */
export function runtimeReporter(onWarning: (line: string) => void): Reporter {
  const warn = (place: Place, what: string, fix: string): void => onWarning(problemLine(place, what, fix));
  return {
    error: (place, what, fix) => {
      throw configError(place, what, fix);
    },
    oversight: warn,
    warning: warn,
  };
}

/** For the check: collects everything and never throws. */
export class StrictReporter implements Reporter {
  readonly errors: string[] = [];
  readonly warnings: string[] = [];

  error(place: Place, what: string, fix: string): void {
    this.errors.push(problemLine(place, what, fix));
  }

  oversight(place: Place, what: string, fix: string): void {
    this.error(place, what, fix);
  }

  warning(place: Place, what: string, fix: string): void {
    this.warnings.push(problemLine(place, what, fix));
  }
}
