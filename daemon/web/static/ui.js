// @ts-check
// Small parts that all views share: text of others, time, presence, names, dialogs, lists
// that are long.

import { html, signal, useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { agentPath, route } from "./router.js";
import { session } from "./store.js";

export { html };

// ---- text that others wrote ---------------------------------------------------------

const policy = "trustedTypes" in window ? /** @type {any} */ (window).trustedTypes.createPolicy("duo-server-html", { createHTML: (/** @type {string} */ text) => text }) : null;

/**
 * Lets markup that the daemon has rendered and sanitised into the page: the value is for
 * dangerouslySetInnerHTML. Nothing else may go through it, and it is the only way in.
 * @param {string} markup
 * @returns {any}
 */
export function serverHTML(markup) {
  return policy ? policy.createHTML(markup) : markup;
}

// What may be shown as it is: as package frame of the daemon has it.
const graphic = /^[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]$/u;
const ignorable = /^\p{Default_Ignorable_Code_Point}$/u;
const sign = /^[\p{So}\p{Sm}]$/u;
const plain = /^[ -~]*$/;

/** @param {string} before the character before, empty at the beginning @param {string} c */
function passes(before, c) {
  if (c < "\x80") return c >= " " && c < "\x7f";
  if (c === "\uFE0F") return before > "\x80" && sign.test(before); // asks for the coloured form of a sign
  return graphic.test(c) && !ignorable.test(c);
}

/**
 * Splits a text into what can be shown as it is, and names of what cannot: characters that
 * are not seen, or turn the direction of others.
 * @param {string} text
 * @returns {{text: string, hidden: boolean}[]}
 */
function parts(text) {
  if (plain.test(text)) return [{ text, hidden: false }];
  /** @type {{text: string, hidden: boolean}[]} */
  const list = [];
  let before = "";
  for (const c of text.toWellFormed()) {
    const hidden = !passes(before, c);
    const shown = hidden ? `\\u{${/** @type {number} */ (c.codePointAt(0)).toString(16).toUpperCase()}}` : c;
    const last = list.at(-1);
    if (last && !hidden && !last.hidden) last.text += shown;
    else list.push({ text: shown, hidden });
    before = c;
  }
  return list;
}

/** Makes a text of others fit for a title or a label. @param {string|undefined} text */
export function visible(text) {
  return parts(text ?? "").map((p) => p.text).join("");
}

/** A text of others on one line, with what is hidden in it marked. @param {{text?: string}} props */
export function Peer({ text = "" }) {
  return parts(text).map((p) => (p.hidden ? html`<span class="hidden-character">${p.text}</span>` : p.text));
}

// ---- time -------------------------------------------------------------------------------

/** The time now, to the second, and to the half minute. */
export const second = signal(Date.now());
export const halfMinute = signal(Date.now());
setInterval(() => {
  second.value = Date.now();
  if (second.value - halfMinute.peek() >= 30000) halfMinute.value = second.value;
}, 1000);

const units = /** @type {const} */ ([[86400, "d"], [3600, "h"], [60, "min"]]);

/** A span of time in words: "3 s", "4 min", "2 h". @param {number} ms */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  for (const [size, unit] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${seconds} s`;
}

/** How long ago something was, kept up to date. @param {{at: number, live?: boolean, suffix?: string}} props live: counts seconds */
export function Ago({ at, live = false, suffix = "" }) {
  if (!at) return null;
  const now = live && Date.now() - at < 60000 ? second.value : Math.max(halfMinute.value, at);
  return html`<time datetime=${iso(at)} title=${exact(at)}>${!live && now - at < 60000 ? "now" : span(now - at) + suffix}</time>`;
}

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const preciseTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayTime = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" });

/** Whether a calendar has a moment: other hosts, and who appends to logs, write what they like. @param {number|undefined} at */
const isMoment = (at) => at !== undefined && at > 0 && at < 8e15;
/** @param {Intl.DateTimeFormat} form @param {number|undefined} at */
const told = (form, at) => (isMoment(at) ? form.format(at) : "no time");

/** Date and time of a moment. @param {number} [at] Unix milliseconds */
export const exact = (at) => told(dateTime, at);
/** Time of day. @param {number} [at] Unix milliseconds */
export const clock = (at) => told(clockTime, at);
/** Time of day with seconds. @param {number} [at] Unix milliseconds */
export const precise = (at) => told(preciseTime, at);
/** Day. @param {number} [at] Unix milliseconds */
export const day = (at) => told(dayTime, at);
/** A moment as attributes have it, undefined for none. @param {number} [at] Unix milliseconds */
export const iso = (at) => (isMoment(at) ? new Date(/** @type {number} */ (at)).toISOString() : undefined);

/** Seconds until a moment. @param {{until: number}} props */
export function Countdown({ until }) {
  return html`<span class="countdown" aria-hidden="true">${Math.max(0, Math.ceil((until - second.value) / 1000))} s</span>`;
}

const numbers = new Intl.NumberFormat("en");

/** How many of something, in words. @param {number} n @param {string} one @param {string} [many] */
export const count = (n, one, many = one + "s") => `${numbers.format(n)} ${n === 1 ? one : many}`;

// ---- agents -----------------------------------------------------------------------------

/** An address as it is told here: agents of this host by their name alone. @param {string|undefined} address */
export function local(address) {
  const host = session.value?.host;
  return host && address?.endsWith("@" + host) ? address.slice(0, -host.length - 1) : (address ?? "");
}

/** The hue of an agent, one of twelve that the style sheet knows. @param {string} [address] */
export function hue(address = "") {
  let sum = 7;
  for (const c of address.toLowerCase()) sum = (sum * 31 + /** @type {number} */ (c.codePointAt(0))) >>> 0;
  return "hue-" + (sum % 12);
}

/** The initials of an agent. @param {{address: string, small?: boolean}} props */
export function Avatar({ address, small = false }) {
  const letters = [...visible(local(address)).replace(/[^\p{L}\p{N}]/gu, "")].slice(0, 2).join("");
  return html`<span class="avatar ${hue(address)} ${small ? "small" : ""}" aria-hidden="true">${letters || "?"}</span>`;
}

/** The name of an agent, which leads to it. @param {{address: string, plain?: boolean}} props plain: it leads nowhere */
export function Name({ address, plain: leadsNowhere = false }) {
  const [name, host] = split(local(address));
  const inside = html`<bdi><${Peer} text=${name} /></bdi>${host && html`<span class="at">@<bdi><${Peer} text=${host} /></bdi></span>`}`;
  return leadsNowhere ? html`<span class="name">${inside}</span>` : html`<a class="name" href=${agentPath(local(address))}>${inside}</a>`;
}

/** @param {string} address @returns {[string, string]} */
function split(address) {
  const at = address.lastIndexOf("@");
  return at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
}

/** A state as a dot and a word. @param {{state: string, word?: string}} props */
export function State({ state, word = state }) {
  return html`<span class="state state-${state}"><span class="dot" aria-hidden="true"></span>${word}</span>`;
}

// ---- what is said to those who do not see -----------------------------------------------

/** @type {string[]} */
let waiting = [];
let saying = 0;
const sayEvery = 2000; // ms between two announcements

/** Tells a reader of the screen, at most once in two seconds. @param {string} text */
export function announce(text) {
  waiting.push(text);
  if (!saying) say();
}

function say() {
  const place = document.getElementById("announcements");
  saying = 0;
  if (!place || waiting.length === 0) return;
  place.textContent = waiting.length > 3 ? `${waiting.slice(-3).join(". ")}, and ${waiting.length - 3} more` : waiting.join(". ");
  waiting = [];
  saying = setTimeout(say, sayEvery);
}

/** The heading of a view: it is the title of the window, and has the focus when the view was just opened. @param {{title: string, children?: any, focus?: unknown, class?: string}} props focus: what a change of means another view */
export function Heading({ title, children, focus, class: kind = "" }) {
  const ref = useRef(/** @type {HTMLElement|null} */ (null));
  useEffect(() => {
    document.title = title ? `${title} · duo` : "duo";
  }, [title]);
  useLayoutEffect(() => {
    if (opened++ > 0) ref.current?.focus({ preventScroll: true }); // the first view of a page leaves the focus at its start
  }, [focus]);
  return html`<h1 class=${kind} tabindex="-1" ref=${ref}>${children ?? title}</h1>`;
}

let opened = 0;

// ---- doing ------------------------------------------------------------------------------

/** Copies a text, and says so. @param {string} text @param {string} what it is */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    toast(`The browser does not let the page copy; ${what.toLowerCase()}: ${text}`);
  }
}

/** The short message at the lower end of the page; empty for none. */
export const toasted = signal("");
let toastEnds = 0;

/** Tells in a short message that something was done. @param {string} text */
export function toast(text) {
  toasted.value = text;
  announce(text);
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => (toasted.value = ""), 4000);
}

/** A modal dialog: open while it is rendered. What has data-first in it has the focus then. @param {{title: string, onClose: () => void, children: any, class?: string}} props */
export function Dialog({ title, onClose, children, class: kind = "" }) {
  const ref = useRef(/** @type {HTMLDialogElement|null} */ (null));
  useEffect(() => {
    const back = document.activeElement;
    ref.current?.showModal();
    /** @type {HTMLElement|null|undefined} */ (ref.current?.querySelector("[data-first]"))?.focus();
    return () => (back instanceof HTMLElement && back.isConnected ? back : document.getElementById("main"))?.focus();
  }, []);
  /** @param {MouseEvent} event */
  const onClick = (event) => event.target === ref.current && onClose(); // beside the box
  return html`<dialog ref=${ref} class=${kind} aria-label=${title} onClose=${onClose} onClick=${onClick}>
    <div class="dialog-box">${children}</div>
  </dialog>`;
}

/** What an error says to a person, with what to do next. @param {{error: any}} props */
export function Failure({ error }) {
  if (!error) return null;
  return html`<p class="failure" role="alert">${visible(error.message ?? String(error))}${error.next && html` · <span class="next">next: <code>${visible(error.next)}</code></span>`}</p>`;
}

// ---- what goes wrong in the page itself -----------------------------------------------------

/**
 * Keeps what goes wrong while a part of the page is drawn to that part, and says there what
 * to do. Who goes to another view has it tried again.
 * @param {{what: string, class: string, children: any}} props what: the part, as a sentence begins; class: of what stands in its place
 */
export function Bounded({ what, class: kind, children }) {
  const [error, retry] = useErrorBoundary((/** @type {any} */ err) => console.error(what + " cannot be shown:", err));
  const { visit } = route.value;
  useEffect(() => retry(), [visit]);
  if (!error) return children;
  return html`<div class="broken-part ${kind}">${kind === "sheet" && html`<${Heading} title="Something went wrong" focus=${error} />`}<div class="failure" role="alert">
    <p>${what} cannot be shown: the page has made a mistake. Nothing is lost. Reload it; the browser's console says what it was.</p>
    <button class="small" onClick=${() => location.reload()}>Reload</button>
  </div></div>`;
}

// ---- long lists ---------------------------------------------------------------------------

const overscan = 8; // rows beyond what is seen

/**
 * A list of which only the rows in sight are in the document. All rows are equally high.
 * @template T
 * @param {{items: T[], row: (item: T) => any, id: (item: T) => string, rowHeight: number, label: string, class?: string, scroller?: any}} props
 */
export function LongList({ items, row, id, rowHeight, label, class: kind = "" }) {
  const ref = useRef(/** @type {HTMLElement|null} */ (null));
  const [range, setRange] = useState(/** @type {[number, number]} */ ([0, 40]));
  useLayoutEffect(() => {
    const list = /** @type {HTMLElement} */ (ref.current);
    const scroller = /** @type {HTMLElement} */ (list.closest(".scroller"));
    const update = () => {
      const above = scroller.getBoundingClientRect().top - list.getBoundingClientRect().top;
      const from = Math.max(0, Math.floor(above / rowHeight) - overscan);
      const to = from + Math.ceil(scroller.clientHeight / rowHeight) + 2 * overscan;
      setRange((was) => (was[0] === from && was[1] === to ? was : [from, to]));
    };
    update();
    const sizes = new ResizeObserver(update);
    sizes.observe(scroller);
    scroller.addEventListener("scroll", update, { passive: true });
    return () => {
      sizes.disconnect();
      scroller.removeEventListener("scroll", update);
    };
  }, [rowHeight, items.length]);
  const from = Math.min(range[0], Math.max(0, items.length - 1));
  const shown = items.slice(from, range[1]);
  return html`<ul class="long-list ${kind}" aria-label=${label} ref=${ref} style=${{ height: items.length * rowHeight + "px" }}>
    ${shown.map((item, i) => html`<li key=${id(item)} aria-setsize=${items.length} aria-posinset=${from + i + 1} style=${{ transform: `translateY(${(from + i) * rowHeight}px)`, height: rowHeight + "px" }}>${row(item)}</li>`)}
  </ul>`;
}
