// @ts-check
// A conversation as a sequence: a lane for each agent, an arrow for each message, and the
// gaps between them to a scale that long pauses do not break.

import { batch, useEffect, useMemo, useRef, useSignal } from "./vendor/preact.js";
import { oneLine, stateOf } from "./article.js";
import { onKey } from "./keys.js";
import { arrange, headHeight } from "./sequence-layout.js";
import { conversationPath, navigate, requestPath, route } from "./router.js";
import { ask, listen, onResume } from "./store.js";
import { summary } from "./sentence.js";
import { Tabs } from "./tabs.js";
import { count, exact, Failure, Heading, html, hue, iso, local, Name, Peer, precise, visible } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */
/** @typedef {import("./logwindow.js").Page} Page */

const perPage = 200; // lines that are drawn at a time

const narrow = matchMedia("(max-width: 760px)");
const measures = { wide: { lane: 150, left: 108 }, narrow: { lane: 92, left: 44 } };

/** The sequence of a conversation. @param {{conversation: string}} props */
export function Sequence({ conversation: ref }) {
  const page = useSignal(/** @type {Page|null} */ (null));
  const call = useSignal(/** @type {import("./store.js").Request|null} */ (null));
  const problem = useSignal(/** @type {any} */ (null));
  const { query, seq } = route.value;
  const after = query.get("after") ?? (seq ? String(Math.max(0, seq - perPage / 2)) : "");
  const asTable = query.get("as") === "table";

  useEffect(() => {
    let over = false, busy = false, again = false;
    const load = async () => {
      if (busy) return void (again = true);
      busy = true;
      try {
        const next = await ask("GET", `/v1/conversations/${encodeURIComponent(ref)}/view?${after && `after=${after}&`}limit=${perPage}`);
        const first = next.messages[0];
        const came = first?.seq === 1 && first.request ? await ask("GET", `/v1/requests/${encodeURIComponent(first.request)}`).catch(() => null) : null;
        if (!over) batch(() => [page.value, call.value, problem.value] = [next, came, null]);
      } catch (err) {
        if (!over) problem.value = err;
      }
      busy = false;
      if (!again || over) return;
      again = false;
      void load();
    };
    void load();
    const stopResuming = onResume(() => void load());
    const stopListening = listen((lines) => {
      const shown = page.value;
      const isFull = shown && (shown.messages.at(-1)?.seq ?? 0) < shown.last;
      if (shown && !isFull && lines.some((l) => l.seq && l.conversation === shown.conversation.id)) void load();
    });
    return () => {
      over = true;
      stopResuming();
      stopListening();
    };
  }, [ref, after]);

  const shown = page.value;
  if (!shown) return html`<section class="sheet"><${Heading} title="Sequence" focus=${ref} /><${Failure} error=${problem.value} />${!problem.value && html`<p class="quiet">Loading…</p>`}</section>`;
  const c = shown.conversation;
  /** @param {Record<string, string>} change */
  const go = (change) => {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(change)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    navigate(`/c/${encodeURIComponent(ref)}/sequence${next.size > 0 ? "?" + next : ""}`, { replace: true });
  };
  const title = c.topic ? visible(c.topic) : "Direct conversation";
  return html`<section class="sequence-view" aria-label="Sequence">
    <header class="transcript-head"><div class="title-line">
      <${Heading} title=${`Sequence: ${title}`} focus=${ref}>${c.topic ? html`<${Peer} text=${c.topic} />` : title}<//></div>
      <p class="about-line"><a href=${conversationPath(c.ref)}>Transcript</a> · <code>${c.ref}</code> · ${count(shown.last, "line")}</p></header>
    <${Failure} error=${problem.value} />
    <${Tabs} label="How to show it" chosen=${asTable ? "table" : "diagram"} onChoose=${(/** @type {string} */ id) => go({ as: id === "table" ? "table" : "" })}
      tabs=${[{ id: "diagram", word: "Diagram" }, { id: "table", word: "Table" }]} beside=${html`<${Paging} page=${shown} go=${go} />`}>
      ${asTable ? html`<${Listing} page=${shown} />` : html`<${Diagram} page=${shown} call=${call.value} meant=${seq} />`}
    <//>
  </section>`;
}

/** @param {{page: Page, go: (change: Record<string, string>) => void}} props */
function Paging({ page, go }) {
  const begin = page.messages[0]?.seq ?? 0, end = page.messages.at(-1)?.seq ?? 0;
  if (begin <= 1 && end >= page.last) return null;
  return html`<div class="paging"><button type="button" disabled=${begin <= 1} onClick=${() => go({ after: "0" })}>First</button>
    <button type="button" disabled=${begin <= 1} onClick=${() => go({ after: String(Math.max(0, begin - 1 - perPage)) })}>Earlier</button>
    <span class="quiet">#${begin} to #${end} of ${page.last.toLocaleString("en")}</span>
    <button type="button" disabled=${end >= page.last} onClick=${() => go({ after: String(end) })}>Later</button>
    <button type="button" disabled=${end >= page.last} onClick=${() => go({ after: "" })}>Last</button></div>`;
}

/** @param {{page: Page, call: import("./store.js").Request|null, meant: number}} props */
function Diagram({ page, call, meant }) {
  const plan = useMemo(() => arrange(page, call, narrow.matches ? measures.narrow : measures.wide), [page, call, narrow.matches]);
  const chosen = useSignal(String(meant));
  const frame = useRef(/** @type {HTMLElement|null} */ (null));
  const step = (/** @type {1|-1} */ way) => {
    const rows = /** @type {SVGAElement[]} */ ([...(frame.current?.querySelectorAll("a.step") ?? [])]);
    const at = rows.findIndex((r) => r.dataset.key === chosen.value);
    rows[Math.max(0, Math.min(rows.length - 1, at + way))]?.focus();
  };
  useEffect(() => onKey({ j: () => step(1), k: () => step(-1) }), []);
  useEffect(() => {
    const scroller = frame.current;
    const row = meant ? scroller?.querySelector(`a.step[data-key="${meant}"]`) : null;
    if (row) row.scrollIntoView({ block: "center" });
    else if (scroller && !route.value.query.get("after")) scroller.scrollTop = scroller.scrollHeight;
  }, [page]);
  const ref = page.conversation.ref;
  return html`<div class="diagram-frame"><div class="diagram" ref=${frame} tabindex="0" role="region" aria-label="Sequence diagram">
      <${LaneHeads} plan=${plan} />
      <svg class="sequence" width=${plan.width} height=${plan.height} role="group" aria-label=${`${count(page.messages.length, "line")} of ${count(plan.lanes.length, "agent")}; the table has the same`}>
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse" markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" /></marker></defs>
        ${plan.lanes.map((lane) => html`<line key=${lane.agent} class="lane ${hue(lane.agent)}" x1=${lane.x} y1=${lane.from} x2=${lane.x} y2=${lane.to} />`)}
        ${plan.gaps.map((gap) => html`<g key=${gap.y} class="gap"><line x1=${plan.left} x2=${plan.width - 8} y1=${gap.y} y2=${gap.y} /><text x="8" y=${gap.y + 4}>${gap.words}</text></g>`)}
        ${plan.rows.map((row) => html`<${Step} key=${row.key} row=${row} plan=${plan} conversation=${ref} onChoose=${(/** @type {string} */ key) => (chosen.value = key)} />`)}
      </svg>
    </div>
    <${About} row=${plan.rows.find((r) => r.key === chosen.value)} conversation=${ref} />
  </div>`;
}

/** @param {{plan: import("./sequence-layout.js").Plan}} props */
function LaneHeads({ plan }) {
  const letters = Math.floor((plan.lane - 24) / 8);
  return html`<svg class="lane-heads" width=${plan.width} height=${headHeight} aria-hidden="true">
    ${plan.lanes.map((lane) => html`<g key=${lane.agent} class=${hue(lane.agent)}><rect x=${lane.x - plan.lane / 2 + 4} y="6" width=${plan.lane - 8} height=${headHeight - 12} rx="6" class="lane-box" />
      <text x=${lane.x} y=${headHeight / 2 + 4} text-anchor="middle">${cut(visible(local(lane.agent)), letters)}<title>${visible(lane.agent)}</title></text></g>`)}
  </svg>`;
}

/** What a row says. @param {import("./sequence-layout.js").Row} row */
function wordsOf({ m, signal }) {
  if (signal) return signal.words;
  return !m ? "" : m.type === "message" ? visible(oneLine(m.content)) || "(no text)" : summary(m);
}

/** What a row says to those who do not see it. @param {import("./sequence-layout.js").Row} row */
function labelOf(row) {
  const names = row.names.map((n) => visible(local(n))).join(", ");
  const seq = row.m ? `#${row.m.seq} ` : "";
  return names ? `${seq}${visible(local(row.agent))} to ${names}: ${wordsOf(row)}` : seq + wordsOf(row);
}

/** @param {{row: import("./sequence-layout.js").Row, plan: import("./sequence-layout.js").Plan, conversation: string, onChoose: (key: string) => void}} props */
function Step({ row, plan, conversation, onChoose }) {
  const { key, m, signal, y, from, to } = row;
  const label = labelOf(row), words = wordsOf(row);
  const choose = () => onChoose(key);
  const isEvent = m && m.type !== "message";
  return html`<a class=${`step ${signal ? "rings" : isEvent ? "happens" : "says"} ${hue(row.agent)}`} href=${signal ? requestPath(signal.ref) : conversationPath(conversation, m?.seq)}
      data-key=${key} data-seq=${m?.seq} onFocus=${choose} onPointerEnter=${choose}>
    <title>${label}</title>
    <g aria-hidden="true"><rect class="step-back" x="0" y=${y - 11} width=${plan.width} height="22" rx="4" />
    ${m && html`<text class="step-seq" x=${plan.left - 8} y=${y + 4} text-anchor="end">${m.seq}</text>`}
    ${plan.left > 60 && html`<text class="step-time" x="8" y=${y + 4}>${precise(row.at)}</text>`}
    <${Arrows} from=${from} to=${to} y=${y} />
    ${isEvent ? html`<path class="event-mark" d=${mark(m, from, y)} /><text class="step-event" x=${from + 12} y=${y + 4}>${cut(words, 60)}</text>`
      : html`<circle cx=${from} cy=${y} r="4" class="from" />${row.room > 40 && html`<text class="step-text" x=${row.textAt} y=${y - 4} text-anchor="middle">${cut(words, Math.floor(row.room / 6.2))}</text>`}`}</g>
  </a>`;
}

/** An arrow to the furthest on each side, with heads for those between. @param {{from: number, to: number[], y: number}} props */
function Arrows({ from, to, y }) {
  const ends = [Math.min(from, ...to), Math.max(from, ...to)].filter((x) => x !== from);
  const between = to.filter((x) => !ends.includes(x)).map((x) => {
    const tip = x > from ? -3 : 3;
    return `M${x + tip} ${y}l${tip * 2.4} -4v8z`;
  });
  return html`${ends.map((x) => html`<line key=${x} class="arrow" x1=${from} y1=${y} x2=${x + (x > from ? -3 : 3)} y2=${y} marker-end="url(#arrow)" />`)}
    ${between.length > 0 && html`<path class="heads" d=${between.join("")} />`}`;
}

/** The sign of what happened, at a place. @param {Message} m @param {number} x @param {number} y */
function mark(m, x, y) {
  if (m.type === "join" || m.event === "invite") return `M${x - 6} ${y - 5}L${x + 6} ${y - 5}L${x} ${y + 6}z`;
  if (m.type === "leave") return `M${x - 5} ${y - 5}L${x + 5} ${y + 5}M${x + 5} ${y - 5}L${x - 5} ${y + 5}`;
  return `M${x} ${y - 6}L${x + 6} ${y}L${x} ${y + 6}L${x - 6} ${y}z`;
}

/** What is told of the line that is looked at. @param {{row: import("./sequence-layout.js").Row|undefined, conversation: string}} props */
function About({ row, conversation }) {
  if (!row) return html`<aside class="about quiet" aria-label="The line that is chosen">Point at a line, or go there with <kbd>j</kbd> and <kbd>k</kbd>, to read it.</aside>`;
  const { m, signal } = row;
  return html`<aside class="about" aria-label="The line that is chosen">
    <p>${m && html`<a href=${conversationPath(conversation, m.seq)}>#${m.seq}</a> `}<${Name} address=${row.agent} /> <time>${exact(row.at)}</time>
      ${signal && html` <a href=${requestPath(signal.ref)}>${signal.ref}</a>`}</p>
    <p class="about-text">${m?.type === "message" ? html`<${Peer} text=${oneLine(m.content)} />` : wordsOf(row)}</p></aside>`;
}

/** The same as a table. @param {{page: Page}} props */
function Listing({ page }) {
  const none = new Map();
  return html`<div class="scroller table-frame" tabindex="0" role="region" aria-label="Table of the lines"><table class="listing">
    <caption class="visually-hidden">The lines of the conversation</caption>
    <thead><tr><th scope="col">#</th><th scope="col">time</th><th scope="col">from</th><th scope="col">to</th><th scope="col">what</th></tr></thead>
    <tbody>${page.messages.map((m) => html`<tr key=${m.seq}><th scope="row"><a href=${conversationPath(page.conversation.ref, m.seq)}>${m.seq}</a></th>
      <td><time datetime=${iso(m.timestamp)} title=${exact(m.timestamp)}>${precise(m.timestamp)}</time></td><td><${Name} address=${m.from} /></td>
      <td>${m.type === "message" ? (m.recipients ?? []).map((r, i) => html`${i > 0 ? ", " : ""}<span title=${stateOf(m, r, none)}>${visible(local(r.agent))}</span>`) : ""}</td>
      <td>${m.type === "message" ? html`<${Peer} text=${oneLine(m.content)} />` : html`<i>${summary(m)}</i>`}</td></tr>`)}</tbody>
  </table></div>`;
}

/** @param {string} text @param {number} most characters */
const cut = (text, most) => (text.length > most ? text.slice(0, Math.max(1, most - 1)) + "…" : text);
