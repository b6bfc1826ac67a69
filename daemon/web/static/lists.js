// @ts-check
// What stands beside every view: the conversations, the agents, and the bar that tells how
// the connection is and who rings.

import { computed, signal, useEffect, useRef, useState } from "./vendor/preact.js";
import { Ago, Avatar, Countdown, LongList, Name, Peer, State, announce, count, halfMinute, html, local, second, span, toast, visible } from "./ui.js";
import { agentPath, conversationPath, requestPath, route } from "./router.js";
import { agents, conversations, eventAt, findMore, heardAt, link, loadOlder, loaded, olderLeft, peers, requests, retryNow, typing, unseen } from "./store.js";

/** @typedef {import("./store.js").Conversation} Conversation */
/** @typedef {import("./store.js").Agent} Agent */
/** @typedef {import("./store.js").Request} Request */

const outcomeStays = 10000; // ms
const waitsAtMost = 3600000; // ms after which nobody is held to wait for an answer in an async conversation

// ---- conversations --------------------------------------------------------------------

const conversationHeight = 70; // pixels, as app.css has it

const filterText = signal("");

const found = computed(() => {
  const words = filterText.value.toLowerCase().split(/\s+/).filter(Boolean);
  const list = [...conversations.value.values()];
  const fits = words.length === 0 ? list : list.filter((c) => {
    const text = [c.topic, c.ref, c.last?.preview, ...c.participants].join("\n").toLowerCase();
    return words.every((w) => text.includes(w));
  });
  return fits.sort((a, b) => b.lastTimestamp - a.lastTimestamp);
});

/** The list of conversations, with a field that narrows it. */
export function Conversations() {
  const { held, hold } = useHold();
  const active = useSteady(found.value.filter((c) => c.status !== "closed"), held);
  const closed = useSteady(found.value.filter((c) => c.status === "closed"), held);
  const ringing = [...requests.value.values()].filter((r) => r.state === "ringing");
  useEffect(() => {
    const text = filterText.value.trim();
    if (text.length < 2 || !olderLeft.value) return;
    const timer = setTimeout(() => void findMore(text), 250);
    return () => clearTimeout(timer);
  }, [filterText.value]);
  return html`<nav class="side conversations" aria-label="Conversations" onKeyDown=${onArrow}>
    <div class="side-head"><h2>Conversations</h2><${Filter} text=${filterText} id="filter-conversations" label="Filter conversations" /></div>
    <div class="scroller" ...${hold}>
      <h3 class="group">Ringing <span class="group-count">${ringing.length}</span></h3>
      <div class="ringing-list">${ringing.length === 0 ? html`<p class="empty">No call rings.</p>` : html`<ul aria-label="Ringing calls">${ringing.map((r) => html`<li key=${r.id}><${RingingRow} r=${r} /></li>`)}</ul>`}</div>
      <h3 class="group">Active <span class="group-count">${active.length}</span></h3>
      ${active.length === 0 && html`<p class="empty">${!loaded.value ? "Loading…" : filterText.value ? "No active conversation has these words." : "Nobody talks now."}</p>`}
      <${LongList} items=${active} row=${conversationRow} id=${idOf} rowHeight=${conversationHeight} label="Active conversations" />
      <h3 class="group">Closed <span class="group-count">${closed.length}${olderLeft.value && !filterText.value ? "+" : ""}</span></h3>
      <${LongList} items=${closed} row=${conversationRow} id=${idOf} rowHeight=${conversationHeight} label="Closed conversations" />
      ${olderLeft.value && !filterText.value && html`<button class="more" onClick=${() => void loadOlder().catch(() => toast("The daemon does not answer"))}>Show older ones</button>`}
    </div>
  </nav>`;
}

/** @param {{id: string}} item */
const idOf = (item) => item.id;
/** @param {Conversation} c */
const conversationRow = (c) => html`<${ConversationRow} c=${c} />`;

/** Whether somebody is about to choose from a list, and what the list needs to tell that. */
export function useHold() {
  const [held, setHeld] = useState(false);
  return { held, hold: { onPointerEnter: () => setHeld(true), onPointerLeave: () => setHeld(false), onFocusIn: () => setHeld(true), onFocusOut: () => setHeld(false) } };
}

/**
 * Keeps the order of a list while somebody is about to choose from it.
 * @template {{id: string}} T @param {T[]} items @param {boolean} held @returns {T[]}
 */
export function useSteady(items, held) {
  const order = useRef(/** @type {string[]} */ ([]));
  if (held) {
    const place = new Map(order.current.map((id, i) => [id, i]));
    items = items.toSorted((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity) || 0);
  }
  order.current = items.map((c) => c.id);
  return items;
}

/** Goes from row to row of a list with the arrows. @param {KeyboardEvent} event */
function onArrow(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !(event.currentTarget instanceof HTMLElement)) return;
  const stops = /** @type {HTMLElement[]} */ ([...event.currentTarget.querySelectorAll(".filter, .row, .more")]);
  const next = stops[stops.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

/** @param {{text: {value: string}, id: string, label: string}} props */
function Filter({ text, id, label }) {
  return html`<input type="search" class="filter" id=${id} aria-label=${label} placeholder="Filter" autocomplete="off" spellcheck=${false} maxlength="200"
    value=${text.value} onInput=${(/** @type {any} */ e) => (text.value = e.target.value)} />`;
}

/** One conversation of a list. @param {{c: Conversation}} props */
export function ConversationRow({ c }) {
  const here = (route.value.name === "conversation" || route.value.name === "sequence") && (route.value.ref === c.ref || route.value.ref === c.id);
  const fresh = here ? 0 : unseen(c);
  return html`<a class="row conversation ${c.status} ${fresh > 0 ? "fresh" : ""}" href=${conversationPath(c.ref)} aria-current=${here ? "page" : undefined}>
    <span class="row-top"><span class="topic"><${Topic} c=${c} /></span><span class="when"><${Ago} at=${c.lastTimestamp} /></span></span>
    <span class="row-middle"><span class="people">${c.topic ? html`<${People} list=${c.participants} />` : "direct conversation"}</span>
      ${c.status === "damaged" && html`<span class="chip bad">damaged</span>`}
      ${c.mode === "live" && c.status === "active" && html`<span class="chip live">live</span>`}
      ${requests.value.get(c.request ?? "")?.callees.some((callee) => callee.state === "ringing") && html`<span class="chip ringing" title="somebody else is still called">rings</span>`}
      <span class="turns" title="turns that were taken, and the limit">${turns(c)}</span>
      ${fresh > 0 && html`<span class="badge" title="new since you looked">${fresh > 99 ? "99+" : fresh}<span class="visually-hidden"> new</span></span>`}</span>
    <span class="row-last"><${LastLine} c=${c} /></span>
  </a>`;
}

/** @param {{c: Conversation}} props */
export function Topic({ c }) {
  return c.topic ? html`<bdi><${Peer} text=${c.topic} /></bdi>` : html`<span class="untitled"><${People} list=${c.participants} /></span>`;
}

/** @param {{list: string[]}} props */
function People({ list }) {
  const shown = list.slice(0, 4);
  return html`${shown.map((p, i) => html`${i > 0 && ", "}<${Name} address=${p} plain />`)}${list.length > 4 && ` and ${list.length - 4} more`}`;
}

/** @param {Conversation} c */
export const turns = (c) => (c.turnLimit ? `turn ${c.turns} of ${c.turnLimit}` : count(c.turns, "turn"));

/** @param {{c: Conversation}} props */
function LastLine({ c }) {
  const who = [...(typing.value.get(c.id) ?? [])].find(([, until]) => until > second.value);
  if (who) return html`<span class="typing">${visible(local(who[0]))} is typing…</span>`;
  if (!c.last) return html`<span class="ref">${c.ref}</span>`;
  if (c.last.type === "message") return html`<span class="who">${visible(local(c.last.from))}:</span> <bdi><${Peer} text=${c.last.preview || "(no text)"} /></bdi>`;
  return html`<span class="event">${visible(local(c.last.from))} <${Happened} last=${c.last} /></span>`;
}

/** What a line that is no message tells, behind the name of who it is by. @param {{last: import("./store.js").Last}} props */
export function Happened({ last }) {
  return html`<bdi><${Peer} text=${last.preview || last.event || last.type} /></bdi>`;
}

/** @param {{r: Request}} props */
function RingingRow({ r }) {
  return html`<a class="row call-row" href=${requestPath(r.ref)} aria-current=${route.value.name === "request" && route.value.ref === r.ref ? "page" : undefined}>
    <span><${Name} address=${r.from} plain /> <span aria-hidden="true">→</span><span class="visually-hidden">calls</span> <${People} list=${r.to} /></span>
    <span class="topic"><bdi><${Peer} text=${r.topic} /></bdi></span><${Countdown} until=${r.ringUntil ?? 0} />
  </a>`;
}

// ---- agents ---------------------------------------------------------------------------

const agentHeight = 64; // pixels, as app.css has it

const agentFilter = signal("");
const ranks = { ringing: 0, "in-call": 1, available: 2, busy: 3, offline: 5 };

/** The agents by what they do, and then by name. */
export const sortedAgents = computed(() => {
  const rank = (/** @type {Agent} */ a) => (a.unregistered ? 6 : ranks[/** @type {keyof typeof ranks} */ (stateOf(a).state)] ?? 4);
  return [...agents.value.values()].sort((a, b) => rank(a) - rank(b) || (a.address < b.address ? -1 : 1));
});

/** How an agent is, as a word and for the eye. @param {Agent} agent */
export function stateOf(agent) {
  if (agent.unregistered) return { state: "offline", word: "unregistered" };
  if (agent.link === "down") return { state: "unreachable", word: "out of reach" };
  return { state: agent.status, word: agent.status === "in-call" ? "in a call" : agent.status };
}

/** For how long an agent is as it is, where that is known. @param {{a: Agent, word?: string}} props word: what stands before it */
export function For({ a, word = "" }) {
  return a.since && !a.unregistered && a.link !== "down" ? html`<span class="for">${word} <${Ago} at=${a.since} live /></span>` : null;
}

/** By address: for whom an agent waits, and since when. */
export const waits = computed(() => {
  /** @type {Map<string, {people: string[], since: number, href: string, what: string}>} */
  const list = new Map();
  for (const c of conversations.value.values()) {
    if (c.status !== "active" || c.last?.type !== "message") continue;
    const { from, timestamp } = c.last;
    if (c.mode !== "live" && halfMinute.value - timestamp > waitsAtMost) continue;
    const people = c.participants.filter((p) => p !== from);
    if (people.length > 0 && (list.get(from)?.since ?? 0) < timestamp) list.set(from, { people, since: timestamp, href: conversationPath(c.ref), what: "a reply from" });
  }
  for (const r of requests.value.values()) {
    if (r.state === "ringing") list.set(r.from, { people: r.to, since: r.createdAt, href: requestPath(r.ref), what: "an answer from" });
  }
  return list;
});

/** The rail of agents, with a field that narrows it. @param {{open: boolean, onClose: () => void}} props open: as a drawer, where there is no room beside */
export function Agents({ open, onClose }) {
  const close = useRef(/** @type {HTMLButtonElement|null} */ (null));
  useEffect(() => {
    if (!open || !close.current?.offsetParent) return; // it stands beside the view
    const back = document.activeElement;
    close.current.focus();
    return () => {
      if (document.activeElement === document.body && back instanceof HTMLElement) back.focus();
    };
  }, [open]);
  const words = agentFilter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const list = sortedAgents.value.filter((a) => {
    if (a.unregistered && words.length === 0) return false;
    const text = [a.address, a.description, a.status, a.platform, ...a.capabilities].join("\n").toLowerCase();
    return words.every((w) => text.includes(w));
  });
  return html`<aside class="side agents ${open ? "open" : ""}" aria-label="Agents" id="agents" onKeyDown=${onArrow}>
    <div class="side-head"><h2>Agents <span class="group-count">${list.length}</span></h2><${Filter} text=${agentFilter} id="filter-agents" label="Filter agents" />
      <button class="icon drawer-close" ref=${close} aria-label="Close the list of agents" onClick=${onClose}>×</button></div>
    <div class="scroller">
      ${list.length === 0 && html`<p class="empty">${!loaded.value ? "Loading…" : agentFilter.value ? "No agent has these words." : html`No agents yet. <code>duo register NAME</code> makes one.`}</p>`}
      <${LongList} items=${list} row=${agentRow} id=${(/** @type {Agent} */ a) => a.address} rowHeight=${agentHeight} label="Agents" />
    </div>
  </aside>`;
}

/** @param {Agent} a */
const agentRow = (a) => html`<${AgentRow} a=${a} />`;

/** One agent of a list. @param {{a: Agent}} props */
export function AgentRow({ a }) {
  const { state, word } = stateOf(a);
  const name = local(a.address);
  const wait = waits.value.get(a.address);
  return html`<a class="row agent ${state}" href=${agentPath(name)} aria-current=${route.value.name === "agent" && route.value.ref.toLowerCase() === name.toLowerCase() ? "page" : undefined}>
    <${Avatar} address=${a.address} />
    <span class="row-body">
      <span class="row-top"><${Name} address=${a.address} plain /><${Standing} a=${a} /><${State} state=${state} word=${word} />${state !== "offline" && html`<${For} a=${a} />`}</span>
      <span class="row-middle">${a.capabilities.length > 0 ? html`<span class="capabilities">${visible(a.capabilities.join(", "))}</span>` : html`<span class="capabilities none">${visible(a.description) || "says nothing of itself"}</span>`}</span>
      <span class="row-last">${a.unread > 0 && html`<span class="unread ${a.listening ? "" : "pressing"}">${a.unread} unread</span>`}
        ${wait && state !== "offline" ? html`<span class="waits">waits for ${visible(wait.people.slice(0, 2).map(local).join(", "))}${wait.people.length > 2 && " and others"} <${Ago} at=${wait.since} live /></span>`
          : html`<span class="presence-more"><${PresenceMore} a=${a} /></span>`}</span>
    </span>
  </a>`;
}

/** @param {{a: Agent}} props */
export function Standing({ a }) {
  if (a.human) return html`<span class="chip human">person</span>`;
  return a.standing && a.standing !== "none" ? html`<span class="chip bad">${a.standing}</span>` : null;
}

/** @param {{a: Agent}} props */
function PresenceMore({ a }) {
  if (a.note) return html`“${visible(a.note)}”`;
  if (a.status === "offline" || a.human) return a.lastSeen ? html`seen <${Ago} at=${a.lastSeen} suffix=" ago" />` : "never seen";
  return a.listening ? "listening" : a.wake ? { push: "reached at once", "turn-end": "told at the end of its turn", manual: "has to look", none: "nobody listens" }[a.wake] ?? visible(a.wake) : "not listening";
}

// ---- the bar ------------------------------------------------------------------------------

/** The bar below the head: how the connection is, and who calls whom. */
export function NowBar() {
  return html`<section class="now" aria-label="Now"><${LinkState} /><${Calls} /></section>`;
}

function LinkState() {
  const { state, why, retryAt, since } = link.value;
  const now = second.value;
  const silent = now - heardAt.value;
  useEffect(() => {
    if (state === "live") announce("Connected");
    if (state === "waiting") announce("The connection is broken: " + why);
  }, [state]);
  if (state === "live" && silent < 12000) {
    const last = eventAt.value ? `last event ${span(now - eventAt.value)} ago` : "nothing new yet";
    return html`<p class="link live" title=${`the daemon answered ${span(silent)} ago; connected for ${span(now - since)}`}><span class="dot" aria-hidden="true"></span><b>live</b> <span class="link-more">${last}</span></p>`;
  }
  if (state === "live") return html`<p class="link doubtful"><span class="dot" aria-hidden="true"></span><b>silent</b> <span class="link-more">nothing heard for ${span(silent)}</span></p>`;
  const stale = heardAt.value ? `as of ${span(now - heardAt.value)} ago` : "";
  if (state === "waiting") {
    return html`<p class="link broken"><span class="dot" aria-hidden="true"></span><b>not connected</b> <span class="link-more" title=${visible(why)}>${stale || visible(why)}; again in ${span(Math.max(0, retryAt - now))}</span>
      <button class="small" onClick=${retryNow}>Try now</button></p>`;
  }
  return html`<p class="link doubtful"><span class="dot" aria-hidden="true"></span><b>connecting</b> <span class="link-more">${stale}</span></p>`;
}

/** How a call stands that nobody has accepted yet, or has come to something a moment ago. */
const outcomes = { accepted: "accepted", rejected: "declined", cancelled: "withdrawn", missed: "missed", busy: "busy", queued: "waits until it is there" };

/** @param {Request} r when something changed last */
const changedAt = (r) => Math.max(r.createdAt, ...r.callees.map((c) => c.at));

function Calls() {
  const now = second.value;
  const all = [...requests.value.values()].sort((a, b) => b.createdAt - a.createdAt);
  const ringing = all.filter((r) => r.state === "ringing");
  const fresh = all.filter((r) => r.state !== "ringing" && now - changedAt(r) < outcomeStays);
  const unanswered = all.filter((r) => ["queued", "missed", "busy"].includes(r.state) && !r.over && !fresh.includes(r));
  useCallNews(ringing, fresh);
  const inCall = [...agents.value.values()].filter((a) => a.status === "in-call").length;
  return html`<div class="calls">
    <ul class="call-list" aria-label="Calls">
      ${ringing.map((r) => html`<li key=${r.id}><a class="call ringing" href=${requestPath(r.ref)}><span class="bell" aria-hidden="true"></span><${CallText} r=${r} /> <${Countdown} until=${r.ringUntil ?? 0} /></a></li>`)}
      ${fresh.map((r) => html`<li key=${r.id}><a class="call ${r.state}" href=${r.conversationRef ? conversationPath(r.conversationRef) : requestPath(r.ref)}><${CallText} r=${r} /> <b>${outcomes[/** @type {keyof typeof outcomes} */ (r.state)] ?? r.state}</b></a></li>`)}
    </ul>
    ${ringing.length + fresh.length === 0 && html`<span class="calm">${loaded.value ? "no call rings" : ""}</span>`}
    <span class="now-more">${unanswered.length > 0 && html`<a href="/">${count(unanswered.length, "unanswered call")}</a>`}${inCall > 0 && html`<span>${count(inCall, "agent")} in calls</span>`}<${HostsNow} /></span>
  </div>`;
}

function HostsNow() {
  const down = peers.value.filter((p) => p.state !== "up").length;
  return down > 0 ? html`<a class="bad" href="/hosts">${count(down, "host")} out of reach</a>` : null;
}

/** @param {{r: Request}} props */
function CallText({ r }) {
  return html`<${Name} address=${r.from} plain /> <span aria-hidden="true">→</span><span class="visually-hidden">calls</span> <${People} list=${r.to} />${r.topic && html` <span class="call-topic"><bdi><${Peer} text=${r.topic} /></bdi></span>`}`;
}

/** Says aloud what begins to ring and what comes of it. @param {Request[]} ringing @param {Request[]} fresh */
function useCallNews(ringing, fresh) {
  const said = useRef(new Map());
  useEffect(() => {
    for (const r of [...ringing, ...fresh]) {
      if (said.current.get(r.id) === r.state) continue;
      said.current.set(r.id, r.state);
      announce(`${visible(local(r.from))} calls ${visible(r.to.map(local).join(", "))}: ${outcomes[/** @type {keyof typeof outcomes} */ (r.state)] ?? "ringing"}`);
    }
    for (const id of said.current.keys()) if (!requests.value.has(id)) said.current.delete(id);
  }, [[...ringing, ...fresh].map((r) => r.id + r.state).join()]);
}
