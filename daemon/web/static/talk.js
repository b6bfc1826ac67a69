// @ts-check
// Who talks to whom: a table of senders and recipients, and the same as a small graph.

import { batch, useEffect, useSignal } from "./vendor/preact.js";
import { agentPath, navigate, route } from "./router.js";
import { ask } from "./store.js";
import { Tabs } from "./tabs.js";
import { Ago, count, exact, Failure, Heading, html, hue, local, Name, visible } from "./ui.js";

/** @typedef {{from: string, to: string, count: number, last: number}} Pair */
/** @typedef {{pairs: Pair[], more?: number, since?: number, behind?: {conversations: number, lines: number}}} Answer */

const periods = [["1h", "last hour"], ["24h", "last day"], ["7d", "last week"], ["30d", "last 30 days"], ["", "all time"]];
const most = 24; // agents in the table and the graph: the busiest ones
const every = 15000; // ms between two looks while the view is open
const soon = 2000; // the same, while the index catches up

/** Who talks to whom. */
export function Talk() {
  const since = route.value.query.get("since") ?? "";
  const tab = route.value.query.get("as") === "graph" ? "graph" : "table";
  const answer = useSignal(/** @type {Answer|null} */ (null));
  const problem = useSignal(/** @type {any} */ (null));
  useEffect(() => {
    let over = false, timer = 0;
    const load = async () => {
      try {
        const next = document.hidden && answer.value ? answer.value : await ask("GET", `/v1/talk${since && "?since=" + encodeURIComponent(since)}`);
        if (!over) batch(() => [answer.value, problem.value] = [next, null]);
      } catch (err) {
        if (!over) problem.value = err;
      }
      if (!over) timer = setTimeout(load, answer.value?.behind?.conversations ? soon : every);
    };
    void load();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [since]);
  /** @param {string} as @param {string} period */
  const go = (as, period) => {
    const next = new URLSearchParams();
    if (period) next.set("since", period);
    if (as !== "table") next.set("as", as);
    navigate(`/talk${next.size > 0 ? "?" + next : ""}`, { replace: true });
  };
  const talk = answer.value && arrange(answer.value.pairs);
  const behind = answer.value?.behind?.conversations ?? 0;
  return html`<section class="sheet scroller talk-view">
    <${Heading} title="Who talks to whom" focus="talk" />
    <div class="talk-bar"><label>Period <select value=${since} onChange=${(/** @type {any} */ e) => go(tab, e.target.value)}>
      ${periods.map(([value, word]) => html`<option key=${value} value=${value}>${word}</option>`)}
      ${!periods.some(([value]) => value === since) && html`<option value=${since}>since ${visible(since)}</option>`}
    </select></label>
    ${talk && html`<span class="quiet">${count(talk.total, "message")} among ${count(talk.people.length + talk.left, "agent")}, once for each recipient</span>`}</div>
    <${Failure} error=${problem.value} />
    ${behind > 0 && html`<p class="behind">${count(behind, "conversation")} ${behind === 1 ? "is" : "are"} not yet counted.</p>`}
    ${!talk ? !problem.value && html`<p class="quiet">Counting…</p>` : talk.people.length === 0 ? html`<p class="empty">Nobody has written to anybody in this time.</p>` : html`
      <${Tabs} label="How to show it" chosen=${tab} onChoose=${(/** @type {string} */ id) => go(id, since)} tabs=${[{ id: "table", word: "Table" }, { id: "graph", word: "Graph" }]}>
        ${tab === "table" ? html`<${Matrix} talk=${talk} />` : html`<${Graph} talk=${talk} />`}
      <//>
      ${talk.left > 0 && html`<p class="quiet">${count(talk.left, "agent")} that talk less are left out.</p>`}`}
  </section>`;
}

/** @typedef {ReturnType<typeof arrange>} TalkOf */

/** Brings pairs into rows and columns, the busiest agents first. @param {Pair[]} pairs */
function arrange(pairs) {
  /** @type {Map<string, number>} */
  const busy = new Map();
  let total = 0, peak = 1;
  for (const p of pairs) {
    busy.set(p.from, (busy.get(p.from) ?? 0) + p.count);
    busy.set(p.to, (busy.get(p.to) ?? 0) + p.count);
    total += p.count;
    peak = Math.max(peak, p.count);
  }
  const all = [...busy].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([address]) => address);
  const cells = new Map(pairs.map((p) => [p.from + "\n" + p.to, p]));
  return { people: all.slice(0, most), left: Math.max(0, all.length - most), total, peak, of: (/** @type {string} */ from, /** @type {string} */ to) => cells.get(from + "\n" + to) };
}

/** How strong a number is beside the greatest one: 1 to 5. @param {number} n @param {number} peak */
const heat = (n, peak) => Math.max(1, Math.ceil((5 * Math.log(1 + n)) / Math.log(1 + peak)));

/** @param {{talk: TalkOf}} props */
function Matrix({ talk }) {
  return html`<table class="matrix">
    <caption class="visually-hidden">Messages by sender, in rows, and recipient, in columns</caption>
    <thead><tr><td class="corner"><span>from ↓ to →</span></td>${talk.people.map((to) => html`<th scope="col" key=${to}><span class="column-name"><${Name} address=${to} /></span></th>`)}</tr></thead>
    <tbody>${talk.people.map((from) => html`<tr key=${from}><th scope="row"><${Name} address=${from} /></th>
      ${talk.people.map((to) => {
        const pair = talk.of(from, to);
        if (from === to && !pair) return html`<td key=${to} class="self"></td>`;
        if (!pair) return html`<td key=${to} class="none"><span aria-hidden="true">·</span><span class="visually-hidden">none</span></td>`;
        return html`<td key=${to} class=${"heat-" + heat(pair.count, talk.peak)} title=${`${visible(local(from))} to ${visible(local(to))}: last ${exact(pair.last)}`}>
          <b>${pair.count.toLocaleString("en")}</b> <small><${Ago} at=${pair.last} /></small></td>`;
      })}</tr>`)}</tbody>
  </table>`;
}

const size = 520, middle = size / 2, radius = 190;

/** @param {{talk: TalkOf}} props */
function Graph({ talk }) {
  const chosen = useSignal("");
  const place = new Map(talk.people.map((address, i) => {
    const angle = (2 * Math.PI * i) / talk.people.length - Math.PI / 2;
    return [address, { x: middle + radius * Math.cos(angle), y: middle + radius * Math.sin(angle), angle }];
  }));
  const edges = talk.people.flatMap((from) => talk.people.flatMap((to) => talk.of(from, to) ?? [])).filter((p) => p.from !== p.to);
  const touches = (/** @type {Pair} */ p) => !chosen.value || p.from === chosen.value || p.to === chosen.value;
  return html`<div class="graph-frame"><svg class="graph" viewBox="0 0 ${size} ${size}" role="group" aria-label=${`A graph of ${talk.people.length} agents; the table has the same numbers`}>
    <defs><marker id="graph-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse" markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" /></marker></defs>
    ${edges.map((p) => html`<path key=${p.from + p.to} class=${`edge-line heat-line-${heat(p.count, talk.peak)}${touches(p) ? "" : " dim"}`} d=${bow(place.get(p.from), place.get(p.to))} marker-end="url(#graph-head)">
      <title>${visible(local(p.from))} to ${visible(local(p.to))}: ${p.count}</title></path>`)}
    ${talk.people.map((address) => {
      const at = /** @type {{x: number, y: number, angle: number}} */ (place.get(address));
      const right = Math.cos(at.angle) >= -0.01;
      const name = visible(local(address));
      return html`<a key=${address} href=${agentPath(local(address))} aria-label=${name} class=${`node ${hue(address)}${chosen.value && chosen.value !== address ? " dim" : ""}`}
          onPointerEnter=${() => (chosen.value = address)} onPointerLeave=${() => (chosen.value = "")} onFocus=${() => (chosen.value = address)} onBlur=${() => (chosen.value = "")}>
        <circle cx=${at.x} cy=${at.y} r="9" />
        <text x=${at.x + (Math.abs(Math.cos(at.angle)) < 0.2 ? 0 : right ? 14 : -14)} y=${at.y + (Math.abs(Math.cos(at.angle)) < 0.2 ? (at.y < middle ? -16 : 26) : 4)}
          text-anchor=${Math.abs(Math.cos(at.angle)) < 0.2 ? "middle" : right ? "start" : "end"}>${name.length > 16 ? name.slice(0, 15) + "…" : name}</text></a>`;
    })}
  </svg><p class="quiet graph-note">${chosen.value ? html`${visible(local(chosen.value))}: ${told(talk, chosen.value)}` : "An arrow is thicker for more messages."}</p></div>`;
}

/** How much an agent wrote and was written to. @param {TalkOf} talk @param {string} who */
function told(talk, who) {
  let wrote = 0, got = 0;
  for (const other of talk.people) {
    wrote += talk.of(who, other)?.count ?? 0;
    got += talk.of(other, who)?.count ?? 0;
  }
  return `wrote ${wrote.toLocaleString("en")}, was written ${got.toLocaleString("en")}`;
}

/**
 * A bowed line from one place to another, so that both ways are seen.
 * @param {{x: number, y: number}|undefined} a
 * @param {{x: number, y: number}|undefined} b
 */
function bow(a, b) {
  if (!a || !b) return "";
  const dx = b.x - a.x, dy = b.y - a.y, length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const bend = Math.min(36, length / 6);
  const from = { x: a.x + ux * 11, y: a.y + uy * 11 }, to = { x: b.x - ux * 12, y: b.y - uy * 12 };
  const c = { x: (a.x + b.x) / 2 - uy * bend, y: (a.y + b.y) / 2 + ux * bend };
  const n = (/** @type {number} */ v) => v.toFixed(1);
  return `M${n(from.x)} ${n(from.y)}Q${n(c.x)} ${n(c.y)} ${n(to.x)} ${n(to.y)}`;
}
