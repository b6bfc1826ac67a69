// @ts-check
// One line of a log as people read it: a message with its marks, or what has happened.

import { useEffect, useRef, useSignal } from "./vendor/preact.js";
import { saveAttachment } from "./download.js";
import { conversationPath } from "./router.js";
import { sentence } from "./sentence.js";
import { clock, exact, html, hue, iso, local, Name, Peer, serverHTML, visible } from "./ui.js";
import { isHuman } from "./store.js";

/** @typedef {import("./logwindow.js").Message} Message */
/** @typedef {import("./logwindow.js").Recipient} Recipient */
/** @typedef {Map<string, {delivered: number, seen: number}>} Progress by address */

/** The states, the furthest first, each with a sign and a word. */
const states = [
  { state: "seen", tick: "✓✓", word: "seen by" },
  { state: "delivered", tick: "✓", word: "delivered to" },
  { state: "stored", tick: "○", word: "stored for" },
  { state: "queued", tick: "…", word: "queued for" },
];
const long = 6000; // characters of a text that is shown in part
const longData = 20000; // characters of data that are shown
const few = 3; // names or numbers that are told without being asked for

/** @param {string} state */
function rank(state) {
  const i = states.findIndex((s) => s.state === state);
  return i < 0 ? states.length - 1 : i;
}

/**
 * How far a message got with a recipient, as far as anybody has said.
 * @param {Message} m
 * @param {Recipient} to
 * @param {Progress} progress
 */
export function stateOf(m, to, progress) {
  const heard = progress.get(to.agent);
  const live = !heard || m.seq > heard.delivered ? "queued" : m.seq > heard.seen ? "delivered" : "seen";
  return states[Math.min(rank(live), rank(to.state))]?.state ?? to.state;
}

/** @param {{m: Message, progress: {value: Progress}}} props */
function Delivery({ m, progress }) {
  const all = m.recipients ?? [];
  const groups = states
    .map((sign) => ({ ...sign, who: all.filter((r) => stateOf(m, r, progress.value) === sign.state) }))
    .filter((g) => g.who.length > 0);
  if (groups.length === 0) return null;
  return html`<ul class="delivery" aria-label="How far it got">
    ${groups.map(({ state, tick, word, who }) => html`<li key=${state} class="got-${state}">
      <span class="tick" aria-hidden="true">${tick}</span> ${word} <${Names} who=${who} />
    </li>`)}
  </ul>`;
}

/** @param {{who: Recipient[]}} props */
function Names({ who }) {
  const all = useSignal(false);
  const shown = all.value || who.length <= few + 1 ? who : who.slice(0, few);
  const left = who.length - shown.length;
  return html`${shown.map((r, i) => html`${i > 0 ? ", " : ""}<span key=${r.agent} title=${r.agent}>${visible(local(r.agent))}${
    r.why ? html` <span class="why">(<${Peer} text=${r.why} />)</span>` : ""}</span>`)}${
    left > 0 ? html` <button type="button" class="inline" onClick=${() => (all.value = true)}>and ${left} more</button>` : ""}`;
}

/** @param {{seqs: number[], conversation: string}} props */
function Crossed({ seqs, conversation }) {
  const link = (/** @type {number} */ seq) => html`<a href=${conversationPath(conversation, seq)}>#${seq}</a>`;
  const ends = seqs.length <= few ? seqs : seqs.filter((_, i) => i === 0 || i === seqs.length - 1);
  return html`<span class="remark crossed" title="Its sender had not been shown them when it wrote">had not seen ${
    ends.map((n, i) => html`${i === 0 ? "" : ends === seqs ? ", " : " to "}${link(n)}`)}</span>`;
}

/** @param {{m: Message}} props */
function Attached({ m }) {
  const problem = useSignal("");
  return html`<ul class="attached" aria-label="Attachments">
    ${(m.attachments ?? []).map((a) => html`<li key=${a.sha256 + a.name}>
      <button type="button" class="file" onClick=${async () => (problem.value = await saveAttachment(m.ref, a))}>
        <span aria-hidden="true">⤓</span> <span class="file-name"><${Peer} text=${a.name} /></span>
        <span class="quiet">${fileSize(a.size)} · <${Peer} text=${a.mediaType} /></span>
      </button>
    </li>`)}
    ${problem.value && html`<li class="why" role="alert">${problem.value}</li>`}
  </ul>`;
}

/** The size of a file in words. @param {number} bytes */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB"];
  let size = bytes / 1000, unit = 0;
  while (size >= 999.5 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** @param {{m: Message, conversation: string, quoted?: Message}} props */
function Quote({ m, conversation, quoted }) {
  const seq = quoted?.seq ?? (typeof m.replyTo === "number" ? m.replyTo : 0);
  if (!seq) return html`<p class="quote">answers an earlier message</p>`;
  return html`<p class="quote"><a href=${conversationPath(conversation, seq)} aria-label=${`Answers message ${seq}`}>#${seq}</a>${" "}
    ${quoted && html`<b>${visible(local(quoted.from))}</b> <span class="quoted"><${Peer} text=${oneLine(quoted.content)} /></span>`}</p>`;
}

/** The beginning of a text on one line. @param {string|undefined} text */
export function oneLine(text) {
  return (text ?? "").slice(0, 600).trim().replace(/\s+/g, " ").slice(0, 160);
}

/** Whom a message is directed to. @param {Message} m */
const directed = (m) => [m.to ?? []].flat().map((to) => visible(local(to))).join(", ");

/** @param {{m: Message}} props */
function Marks({ m }) {
  /** @type {[string, string][]} */
  const marks = [];
  if (m.to !== undefined) marks.push([`to ${directed(m)}`, "It is directed to them"]);
  if (m.auto) marks.push(["automatic", "No model and no human wrote it"]);
  if (m.hops) marks.push([`hop ${m.hops}`, "So many automatic replies in a row led here"]);
  if (m.raw !== undefined) marks.push(["by the shell", "It was appended to the log with the shell, and then taken in"]);
  return marks.map(([word, title]) => html`<span class="remark" key=${word} title=${title}>${word}</span>`);
}

/** @param {{at: number}} props */
function Clock({ at }) {
  return html`<time datetime=${iso(at)} title=${exact(at)}>${clock(at)}</time>`;
}

/** @param {{m: Message}} props */
function Body({ m }) {
  const ref = useRef(/** @type {HTMLElement|null} */ (null));
  useEffect(() => {
    for (const box of /** @type {NodeListOf<HTMLElement>} */ (ref.current?.querySelectorAll("pre, table") ?? [])) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // so that keys can scroll it
    }
  }, [m]);
  if (m.error) return html`<p class="why">It cannot be read: <${Peer} text=${m.error} /></p>`;
  if (m.html === undefined) return html`<pre class="body">${m.content}</pre>`;
  return html`<div class="body" ref=${ref} dangerouslySetInnerHTML=${{ __html: serverHTML(m.html) }}></div>`;
}

/** A body of which only the beginning is seen, until somebody asks for the rest. @param {{m: Message}} props */
function LongBody({ m }) {
  const all = useSignal(false);
  const size = fileSize(new Blob([m.content ?? ""]).size);
  return html`<div class=${all.value ? "" : "shortened"}><${Body} m=${m} /></div>
    <button type="button" class="inline whole" aria-expanded=${all.value} onClick=${() => (all.value = !all.value)}>${all.value ? "Show less" : `Show all of it (${size})`}</button>`;
}

/** @param {{data: unknown}} props */
function Data({ data }) {
  const text = JSON.stringify(data, null, 2);
  return html`<details class="data"><summary>data</summary><pre tabindex="0">${visible(text.slice(0, longData)).replaceAll("\\u{A}", "\n")}${text.length > longData ? "…" : ""}</pre></details>`;
}

/** @param {{m: Message, conversation: string, first: boolean, quoted?: Message}} props */
function Said({ m, conversation, first, quoted }) {
  return html`<div class="what">
    ${first && html`<p class="by"><${Name} address=${m.from} />${isHuman(m.from) && html`<span class="chip human">person</span>`} <${Clock} at=${m.timestamp} /></p>`}
    ${m.replyTo !== undefined && html`<${Quote} m=${m} conversation=${conversation} quoted=${quoted} />`}
    ${(m.content?.length ?? 0) > long ? html`<${LongBody} m=${m} />` : html`<${Body} m=${m} />`}
    ${m.data !== undefined && html`<${Data} data=${m.data} />`}
    ${m.attachments?.length ? html`<${Attached} m=${m} />` : ""}
    <p class="remarks">${m.crossed?.length ? html`<${Crossed} seqs=${m.crossed} conversation=${conversation} />` : ""}<${Marks} m=${m} /></p>
  </div>`;
}

/**
 * A line of a log.
 * @param {object} props
 * @param {Message} props.m
 * @param {string} props.conversation its reference, for links
 * @param {boolean} props.first whether a sender begins to speak with it
 * @param {boolean} props.current whether it is the one that is meant
 * @param {Message} [props.quoted] what it answers
 * @param {{value: Progress}} props.progress
 */
export function Article({ m, conversation, first, current, quoted, progress }) {
  const isMessage = m.type === "message" && !m.error;
  const kind = isMessage ? `said ${hue(m.from)}${first ? " first" : ""}` : "event";
  return html`<article id=${"m" + m.seq} data-seq=${m.seq} tabindex=${current ? 0 : -1} class=${`line ${kind}${current ? " current" : ""}`}
      aria-label=${`${m.seq}, ${visible(local(m.from))}, ${clock(m.timestamp)}`} aria-current=${current ? "true" : undefined}>
    <a class="seq" href=${conversationPath(conversation, m.seq)} title=${isMessage && !first ? exact(m.timestamp) : undefined} aria-label=${`Link to message ${m.seq}`}>${m.seq}</a>
    ${isMessage
      ? html`<${Said} m=${m} conversation=${conversation} first=${first} quoted=${quoted} /><${Delivery} m=${m} progress=${progress} />`
      : html`<p class="what">${sentence(m)} <${Clock} at=${m.timestamp} /></p>`}
  </article>`;
}
