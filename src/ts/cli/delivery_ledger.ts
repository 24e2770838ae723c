/** What was acknowledged to producers against what consumers printed: the account that must balance. */

const ECHO_LINE = /^consume echo "(\d+)-(\d+)" succeeded!/;

interface KeyAccount {
  /** Items acknowledged to the producer: 1 to this number. */
  acknowledged: number;
  /** Items consumed in order: 1 to this number. */
  consumed: number;
}

/** The balance of a ledger. */
export interface Balance {
  readonly keys: number;
  readonly acknowledged: number;
  /** Different items that were consumed. */
  readonly consumed: number;
  /** Items that came once more, as at-least-once delivery allows. */
  readonly repeated: number;
  /** Acknowledged, not consumed so far. */
  readonly missing: number;
  /** Items that came before an earlier one of their key. */
  readonly out_of_order: number;
}

/**
 * Follows items through the queue. The n-th item of a key carries the text of `payload(key, n)` to the echo handler, and
 * is enqueued after the one before it was acknowledged; so the first deliveries of a key must count up from 1.
 */
export class DeliveryLedger {
  readonly #keys = new Map<number, KeyAccount>();
  #repeated = 0;
  #out_of_order = 0;
  #onChange: () => void = () => undefined;

  /** Text of the n-th item of a key. */
  static payload(key: number, sequence: number): string {
    return `${key}-${sequence}`;
  }

  /** The producer got the acknowledgement of the key's next item. */
  acknowledge(key: number): void {
    this.#account(key).acknowledged += 1;
  }

  /** How many items of the key were acknowledged. */
  acknowledged(key: number): number {
    return this.#account(key).acknowledged;
  }

  /** Takes a line that a consumer printed; lines of other kinds are ignored. */
  consumeLine(line: string): void {
    const match = ECHO_LINE.exec(line);
    if (match === null) return;
    const account = this.#account(Number(match[1]));
    const sequence = Number(match[2]);
    if (sequence <= account.consumed) this.#repeated += 1;
    else if (sequence > account.consumed + 1) this.#out_of_order += 1;
    else account.consumed = sequence;
    this.#onChange();
  }

  balance(): Balance {
    const accounts = [...this.#keys.values()];
    const sum = (value: (account: KeyAccount) => number): number => accounts.reduce((all, one) => all + value(one), 0);
    return {
      keys: accounts.length,
      acknowledged: sum((account) => account.acknowledged),
      consumed: sum((account) => account.consumed),
      repeated: this.#repeated,
      missing: sum((account) => Math.max(0, account.acknowledged - account.consumed)),
      out_of_order: this.#out_of_order,
    };
  }

  /** Resolves to true once nothing acknowledged is missing, to false if that does not happen within `within_ms`. */
  settled(within_ms: number): Promise<boolean> {
    return this.#until(() => this.balance().missing === 0, within_ms);
  }

  /** Resolves to true once `items` different items were consumed, to false if not within `within_ms`. */
  reached(items: number, within_ms: number): Promise<boolean> {
    return this.#until(() => this.balance().consumed >= items, within_ms);
  }

  #until(holds: () => boolean, within_ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (held: boolean): void => {
        clearTimeout(timer);
        this.#onChange = () => undefined;
        resolve(held);
      };
      const check = (): void => {
        if (holds()) finish(true);
      };
      const timer = setTimeout(() => finish(false), within_ms);
      this.#onChange = check;
      check();
    });
  }

  #account(key: number): KeyAccount {
    let account = this.#keys.get(key);
    if (account === undefined) {
      account = { acknowledged: 0, consumed: 0 };
      this.#keys.set(key, account);
    }
    return account;
  }
}
