// @ts-check
// A bounded window on the log of one conversation: at most MAX messages of it are held,
// whatever its length. What is heard over the stream is a hint; the truth is read again
// from behind the last message that is held, so nothing is missed and nothing doubled.

import { signal, batch } from "./vendor/preact.js";

/** How many messages a window holds, how many it begins with, and how many come at a time after that. */
const MAX = 240;
const FIRST = 20;
const PAGE = 60;

/**
 * @typedef {{agent: string, state: string, why?: string}} Recipient
 * @typedef {{name: string, mediaType: string, size: number, sha256: string}} Attachment
 * @typedef {{
 *   seq: number, id: string, type: string, event?: string, from: string, timestamp: number,
 *   content?: string, html?: string, ref: string, to?: string|string[], replyTo?: number|string,
 *   crossed?: number[], recipients?: Recipient[], attachments?: Attachment[], auto?: boolean,
 *   hops?: number, raw?: number, operator?: boolean, reason?: string, status?: string, until?: number, why?: string, about?: string, topic?: string,
 *   mode?: string, open?: boolean, turnLimit?: number, participants?: string[], request?: string,
 *   origin?: string, error?: string, after?: number, data?: unknown,
 * }} Message
 * @typedef {{messages: Message[], last: number}} Span
 * @typedef {{conversation: any, messages: Message[], first: number, last: number}} Page
 * @typedef {(query: string) => Promise<Page>} ReadPage
 */

/**
 * Puts messages in front of a span, and lets go of as many behind.
 * @param {Span} span
 * @param {Message[]} older in order
 * @returns {Span}
 */
function prepend(span, older) {
  const begin = span.messages[0]?.seq ?? Infinity;
  const fresh = older.filter((m) => m.seq < begin);
  return { ...span, messages: [...fresh, ...span.messages].slice(0, MAX) };
}

/**
 * Puts messages behind a span, and lets go of as many in front.
 * @param {Span} span
 * @param {Message[]} newer in order
 * @returns {Span}
 */
function append(span, newer) {
  const end = span.messages.at(-1)?.seq ?? 0;
  const fresh = newer.filter((m) => m.seq > end);
  const last = Math.max(span.last, fresh.at(-1)?.seq ?? 0);
  return { messages: [...span.messages, ...fresh].slice(-MAX), last };
}

/** One conversation as a view holds it. */
export class LogWindow {
  /** @param {ReadPage} read asks for a page of the conversation */
  constructor(read) {
    this.read = read;
    this.span = signal(/** @type {Span} */ ({ messages: [], last: 0 }));
    this.conversation = signal(/** @type {any} */ (null));
    this.problem = signal(/** @type {any} */ (null));
    this.loading = signal(/** @type {""|"open"|"older"|"newer"} */ (""));
    this.following = signal(true);
    this.unseen = signal(0); // messages that came since the end was last followed
    this.generation = 0; // of the window: answers for an earlier one are dropped
    this.known = 0; // how far the log reaches, as far as anybody has said
    this.catching = false;
    this.missed = false; // something may have come while nothing was held yet
  }

  /** The seq of the first message that is held, 0 for none. */
  get begin() { return this.span.value.messages[0]?.seq ?? 0; }

  /** The seq of the last message that is held, 0 for none. */
  get end() { return this.span.value.messages.at(-1)?.seq ?? 0; }

  get atBegin() { return this.begin <= 1; }
  get atEnd() { return this.end >= this.span.value.last; }

  /**
   * Replaces the window by the one around a message, or by the end of the log.
   * @param {number} [seq]
   * @returns {Promise<boolean>} whether it is there now
   */
  async open(seq) {
    const mine = ++this.generation;
    this.loading.value = "open";
    const page = await this.ask(`${seq ? `at=${seq}&` : ""}limit=${FIRST}`, mine);
    if (!page) return false;
    batch(() => {
      this.loading.value = "";
      this.span.value = { messages: page.messages, last: this.known };
      this.following.value = !seq;
      this.unseen.value = 0;
    });
    if (this.end >= page.last && (this.missed || !this.atEnd)) void this.catchUp(); // it has grown in the meantime
    this.missed = false;
    return true;
  }

  /** Reads what stands in front of the window, and tells whether there was something. */
  older() {
    return this.atBegin ? Promise.resolve(false) : this.extend("older", `before=${this.begin}`, prepend);
  }

  /** Reads what stands behind the window, and tells whether there was something. */
  newer() {
    return this.atEnd ? Promise.resolve(false) : this.extend("newer", `after=${this.end}`, append);
  }

  /**
   * @param {"older"|"newer"} way
   * @param {string} place
   * @param {(span: Span, messages: Message[]) => Span} join
   */
  async extend(way, place, join) {
    if (this.loading.value) return false;
    this.loading.value = way;
    const page = await this.ask(`${place}&limit=${PAGE}`, this.generation);
    if (!page) return false;
    batch(() => {
      this.loading.value = "";
      this.span.value = join({ ...this.span.value, last: this.known }, page.messages);
    });
    return page.messages.length > 0;
  }

  /**
   * Somebody said that the log reaches to a seq; 0 for that it may have grown.
   * @param {number} seq
   */
  async heard(seq) {
    this.missed ||= this.end === 0;
    if (this.end === 0 || (seq !== 0 && seq <= this.known)) return;
    const tail = this.atEnd; // then the window goes on with the log
    this.grow(seq);
    if (tail || seq === 0) await this.catchUp();
  }

  /** Reads to the end of the log, as far as the window may move. */
  async catchUp() {
    if (this.catching) return;
    this.catching = true;
    const mine = this.generation;
    let more = true;
    while (more) {
      const page = await this.ask(`after=${this.end}&limit=${PAGE}`, mine);
      more = page !== null && page.messages.length > 0 && this.take(page.messages);
    }
    this.catching = false;
    if (mine === this.generation && this.known - this.end > MAX && this.following.value) await this.open();
  }

  /**
   * Puts new messages at the end where nothing that is being read is let go for them.
   * @param {Message[]} messages
   * @returns {boolean} whether to read on
   */
  take(messages) {
    const { length } = this.span.value.messages;
    if (!this.following.value && length + messages.length > MAX) return false;
    this.span.value = append(this.span.value, messages);
    return !this.atEnd && this.known - this.end <= MAX;
  }

  /**
   * Reads a page, and notes what it tells of the conversation.
   * @param {string} query
   * @param {number} mine the generation that it is for
   * @returns {Promise<Page|null>} null where it failed, or is wanted no more
   */
  async ask(query, mine) {
    try {
      const page = await this.read(query);
      if (mine !== this.generation) return null;
      this.conversation.value = page.conversation;
      this.problem.value = null;
      this.grow(page.last);
      return page;
    } catch (err) {
      if (mine === this.generation) {
        this.problem.value = err;
        this.loading.value = "";
      }
      return null;
    }
  }

  /** @param {number} seq how far the log reaches */
  grow(seq) {
    if (seq <= this.known) return;
    if (this.known > 0 && !this.following.value) this.unseen.value += seq - this.known;
    this.known = seq;
    this.span.value = { ...this.span.value, last: seq };
  }

  /** Reads the window again, for what has changed of its messages, and goes on to the end of the log. */
  async refresh() {
    const mine = this.generation;
    for (let from = this.begin; from !== 0 && from <= this.end;) {
      const page = await this.ask(`after=${from - 1}&limit=${PAGE}`, mine);
      const last = page?.messages.at(-1);
      if (!page || !last) return;
      const fresh = new Map(page.messages.map((m) => [m.seq, m]));
      this.span.value = { ...this.span.value, messages: this.span.value.messages.map((m) => fresh.get(m.seq) ?? m) };
      from = last.seq + 1;
    }
    await this.heard(0);
  }

  /**
   * Finds the first message at or behind a time by halving.
   * @param {number} time Unix milliseconds
   * @returns {Promise<number>} its seq, or the last one's
   */
  async seqAt(time) {
    let low = 1, high = Math.max(1, this.known);
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const page = await this.read(`at=${middle}&limit=1`);
      if ((page.messages[0]?.timestamp ?? 0) < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
