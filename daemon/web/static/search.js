// @ts-check
// Search over all conversations: what is asked for stands in the address, so that a search
// can be kept, sent and gone back to.

import { useEffect, useRef, useSignal } from "./vendor/preact.js";
import { onKey } from "./keys.js";
import { conversationPath, navigate } from "./router.js";
import { agents, ask } from "./store.js";
import { announce, Ago, count, exact, Failure, Heading, html, iso, local, Name, Peer, visible } from "./ui.js";

/** @typedef {{text: string, mark?: boolean}} Segment */
/** @typedef {{ref: string, conversation: string, seq: number, type: string, event?: string, from: string, timestamp: number, topic: string, snippet: Segment[], attachment?: string}} Hit */
/** @typedef {{hits: Hit[], more: number, next?: string, behind?: {conversations: number, lines: number}}} Answer */

const filters = /** @type {const} */ (["from", "in", "since", "until"]);
const perPage = 30;

/** What an address asks for: its parameters that are not empty. @param {URLSearchParams} query */
function asked(query) {
  const wanted = new URLSearchParams();
  for (const name of ["q", ...filters]) {
    const value = query.get(name)?.trim();
    if (value) wanted.set(name, value);
  }
  return wanted;
}

/** The search and what it has found. @param {{query: URLSearchParams}} props */
export function Search({ query }) {
  const wanted = asked(query).toString();
  const found = useSignal(/** @type {Answer|null} */ (null));
  const problem = useSignal(/** @type {any} */ (null));
  const busy = useSignal(false);
  const run = useRef(0);

  const load = async (/** @type {string} */ cursor) => {
    const mine = ++run.current;
    busy.value = true;
    try {
      const page = /** @type {Answer} */ (await ask("GET", `/v1/search?${wanted}&limit=${perPage}${cursor && "&cursor=" + encodeURIComponent(cursor)}`));
      if (mine !== run.current) return;
      found.value = cursor && found.value ? { ...page, hits: [...found.value.hits, ...page.hits] } : page;
      problem.value = null;
      announce(cursor ? count(page.hits.length, "more line") : summed(page));
    } catch (err) {
      if (mine === run.current) problem.value = err;
    }
    if (mine === run.current) busy.value = false;
  };
  useEffect(() => {
    found.value = null;
    problem.value = null;
    if (wanted) void load("");
    return () => void run.current++;
  }, [wanted]);
  useEffect(() => onKey({ j: () => step(1), k: () => step(-1) }), []);

  const q = query.get("q") ?? "";
  return html`<section class="sheet scroller search-view">
    <${Heading} title=${q ? `Search: ${visible(q)}` : "Search"} focus="search">Search<//>
    <${Ask} query=${query} key=${wanted} />
    <${Failure} error=${problem.value} />
    ${busy.value && !found.value && html`<p class="quiet">Searching…</p>`}
    ${found.value && html`<${Found} answer=${found.value} busy=${busy.value} onMore=${load} />`}
    ${!wanted && html`<${Hints} />`}
  </section>`;
}

/** How many lines an answer has, in words. @param {Answer} a */
function summed(a) {
  if (a.hits.length === 0) return "Nothing was found";
  return a.more > 0 || a.next ? `The first ${a.hits.length} lines` : count(a.hits.length, "line");
}

/** @param {{query: URLSearchParams}} props */
function Ask({ query }) {
  /** @param {Event} event */
  const onSubmit = (event) => {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const next = asked(new URLSearchParams([...data].map(([name, value]) => [name, String(value)])));
    navigate(`/search?${next}`);
  };
  const first = useRef(/** @type {HTMLInputElement|null} */ (null));
  useEffect(() => {
    if (!query.get("q")) first.current?.focus();
  }, []);
  return html`<form class="ask" role="search" aria-label="All conversations" onSubmit=${onSubmit}>
    <label class="ask-q"><span>Words</span><input ref=${first} name="q" type="search" value=${query.get("q") ?? ""} maxlength="1000" autocomplete="off" placeholder='parser "turn limit" pars* -draft' /></label>
    <label><span>From</span><input name="from" value=${query.get("from") ?? ""} list="search-agents" autocomplete="off" placeholder="anybody" /></label>
    <label><span>In</span><input name="in" value=${query.get("in") ?? ""} autocomplete="off" placeholder="everywhere" /></label>
    <label><span>Since</span><input name="since" value=${query.get("since") ?? ""} autocomplete="off" placeholder="2d or a day" /></label>
    <label><span>Until</span><input name="until" value=${query.get("until") ?? ""} autocomplete="off" placeholder="now" /></label>
    <button type="submit" class="primary">Search</button>
    <datalist id="search-agents">${[...agents.value.values()].slice(0, 500).map((a) => html`<option key=${a.address} value=${local(a.address)} />`)}</datalist>
  </form>`;
}

/** @param {{answer: Answer, busy: boolean, onMore: (cursor: string) => void}} props */
function Found({ answer, busy, onMore }) {
  const behind = answer.behind?.conversations ?? 0;
  return html`<p class="found-head"><b>${summed(answer)}</b>${behind > 0 && html` <span class="behind">${count(behind, "conversation")} ${behind === 1 ? "is" : "are"} not yet searched${answer.behind?.lines ? ` (${count(answer.behind.lines, "line")})` : ""}: the index catches up.</span>`}</p>
    ${answer.hits.length > 0 && html`<ol class="hits" aria-label="What was found">${answer.hits.map((hit) => html`<li key=${hit.conversation + hit.seq}><${Line} hit=${hit} /></li>`)}</ol>`}
    ${answer.next && html`<p><button type="button" disabled=${busy} onClick=${() => onMore(answer.next ?? "")}>${busy ? "Searching…" : "Show more"}</button></p>`}`;
}

/** @param {{hit: Hit}} props */
function Line({ hit }) {
  const ref = hit.ref.replace(/\.\d+$/, "");
  return html`<a class="hit" href=${conversationPath(ref, hit.seq)}>
    <span class="hit-head"><${Name} address=${hit.from} plain /><span class="in">in</span>
      <span class="hit-topic">${hit.topic ? html`<bdi><${Peer} text=${hit.topic} /></bdi>` : "a direct conversation"}</span>
      <span class="quiet hit-ref">${hit.ref}</span>
      <time class="quiet" datetime=${iso(hit.timestamp)} title=${exact(hit.timestamp)}><${Ago} at=${hit.timestamp} suffix=" ago" /></time></span>
    <span class="snippet"><bdi>${hit.snippet.map((s) => (s.mark ? html`<mark><${Peer} text=${flat(s.text)} /></mark>` : html`<${Peer} text=${flat(s.text)} />`))}</bdi></span>
    ${hit.attachment && html`<span class="quiet"><span aria-hidden="true">⤓</span> <${Peer} text=${hit.attachment} /></span>`}
  </a>`;
}

/** A text with its lines behind one another. @param {string} text */
const flat = (text) => text.replace(/[\r\n\t]+/g, " ");

/** Goes to the next result or the one before. @param {1|-1} way */
function step(way) {
  const hits = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("a.hit")]);
  const at = hits.findIndex((h) => h === document.activeElement);
  hits[Math.max(0, Math.min(hits.length - 1, at + way))]?.focus();
}

const hints = /** @type {const} */ ([
  ["parser limit", "lines with both words"],
  ['"turn limit"', "the words one behind the other"],
  ["pars*", "words that begin so"],
  ["parser -draft", "lines without that word"],
  ["has:attachment", "lines with a file"],
  ["topic:review", "in conversations with that word in the topic"],
]);

function Hints() {
  return html`<h2>What to ask for</h2><dl class="hints">${hints.map(([ask, means]) => html`<div key=${ask}><dt><a href=${"/search?q=" + encodeURIComponent(ask)}><code>${ask}</code></a></dt><dd>${means}</dd></div>`)}</dl>`;
}
