// @ts-check
// The overview, an agent, a call, and what stands where nobody is signed in.

import { useEffect, useRef, useState } from "./vendor/preact.js";
import { Ago, Avatar, Countdown, Failure, Heading, Name, Peer, State, copy, count, exact, html, iso, local, visible } from "./ui.js";
import { conversationPath, requestPath } from "./router.js";
import { ask, conversations, findAgent, isOperator, keepAgent, link, loaded, requests, signedOut } from "./store.js";
import { ConversationRow, For, Happened, Standing, Topic, sortedAgents, stateOf, useHold, useSteady, waits } from "./lists.js";
import { StandingControls, Terms, WriteTo } from "./operator.js";
import { Answer, Mail, person } from "./person.js";

/** @typedef {import("./store.js").Agent} Agent */
/** @typedef {import("./store.js").Request} Request */

// ---- the overview ---------------------------------------------------------------------

const latestLines = 20;

/** What goes on at this host. */
export function Home() {
  const { held, hold } = useHold();
  const latest = useSteady([...conversations.value.values()].filter((c) => c.last).sort((a, b) => b.lastTimestamp - a.lastTimestamp).slice(0, latestLines), held);
  const calls = unanswered();
  return html`<section class="sheet home scroller">
    <${Heading} title="Overview" focus="home" />
    <${Tiles} />
    <h2>Said last</h2>
    ${latest.length === 0 && html`<p class="empty">${loaded.value ? html`Nothing yet. <code>duo message NAME "…"</code> begins a conversation.` : "Loading…"}</p>`}
    <ul class="latest" ...${hold}>${latest.map((c) => html`<li><${LatestLine} c=${c} /></li>`)}</ul>
    <h2 id="unanswered">Unanswered calls</h2>
    ${calls.length === 0 && html`<p class="empty">None.</p>`}
    <ul class="request-list">${calls.map((r) => html`<li key=${r.id}><${RequestLine} r=${r} /></li>`)}</ul>
  </section>`;
}

/** The calls that can still be accepted. */
const unanswered = () => [...requests.value.values()].filter((r) => !r.over && r.state !== "accepted").sort((a, b) => b.createdAt - a.createdAt);

function Tiles() {
  const list = sortedAgents.value.filter((a) => !a.unregistered);
  const of = (/** @type {string} */ state) => list.filter((a) => stateOf(a).state === state).length;
  const active = [...conversations.value.values()].filter((c) => c.status === "active");
  const unread = list.reduce((sum, a) => sum + a.unread, 0);
  return html`<dl class="tiles">
    <${Tile} name="agents there" n=${list.length - of("offline") - of("unreachable")}><small> of ${list.length}</small><//>
    <${Tile} name="in a call" n=${of("in-call")} />
    <${Tile} name="active" more="conversations" n=${active.length} />
    <${Tile} name="unread" more="by agents" n=${unread} />
    <${Tile} name="unanswered" more="calls" n=${unanswered().length} />
  </dl>`;
}

/** @param {{name: string, more?: string, n: number, children?: any}} props more: what a phone has no room for */
function Tile({ name, more, n, children }) {
  return html`<div><dt>${name}${more && html`<span class="tile-more"> ${more}</span>`}</dt><dd>${n}${children}</dd></div>`;
}

/** @param {{c: import("./store.js").Conversation}} props */
function LatestLine({ c }) {
  const last = c.last;
  if (!last) return null;
  return html`<a class="latest-line" href=${conversationPath(c.ref, last.seq)}>
    <${Avatar} address=${last.from} />
    <span class="latest-body"><span class="latest-top"><${Name} address=${last.from} plain /> <span class="in">in</span> <span class="topic"><${Topic} c=${c} /></span></span>
    <span class="latest-text">${last.type === "message" ? html`<bdi><${Peer} text=${last.preview || "(no text)"} /></bdi>` : html`<i><${Happened} last=${last} /></i>`}</span></span>
    <span class="when"><${Ago} at=${last.timestamp} /></span>
  </a>`;
}

/** One call of a list. @param {{r: Request}} props */
function RequestLine({ r }) {
  return html`<a class="request-line" href=${requestPath(r.ref)}><span class="chip ${r.state}">${r.state}</span>
    <span><${Name} address=${r.from} plain /> → ${r.to.map((to, i) => html`${i > 0 && ", "}<${Name} address=${to} plain />`)}</span>
    <span class="topic"><bdi><${Peer} text=${r.topic} /></bdi></span>
    <span class="when">${r.state === "ringing" ? html`<${Countdown} until=${r.ringUntil ?? 0} />` : html`<${Ago} at=${r.createdAt} />`}</span></a>`;
}

// ---- an agent -------------------------------------------------------------------------

/** An agent: its card, what it waits for, its calls and its conversations. @param {{name: string}} props */
export function AgentPage({ name }) {
  const agent = findAgent(name);
  const error = useFetched(name, agent !== undefined, async () => keepAgent(await ask("GET", `/v1/agents/${encodeURIComponent(name)}`)));
  if (!agent) return html`<section class="sheet"><${Heading} title=${visible(name)} focus=${name} /><${Failure} error=${error} />${!error && html`<p class="empty">Loading…</p>`}</section>`;
  const { state, word } = stateOf(agent);
  const wait = waits.value.get(agent.address);
  const mine = [...conversations.value.values()].filter((c) => c.participants.includes(agent.address) || c.left?.includes(agent.address)).sort((a, b) => b.lastTimestamp - a.lastTimestamp);
  return html`<section class="sheet scroller agent-page">
    <div class="sheet-head"><${Avatar} address=${agent.address} /><div>
      <${Heading} title=${visible(local(agent.address))} focus=${name}><${Name} address=${agent.address} plain /><//>
      <p class="sub"><span><${State} state=${state} word=${word} /> <${For} a=${agent} word="for" /></span> <${Standing} a=${agent} />${agent.note && html` <q><${Peer} text=${agent.note} /></q>`}${agent.lastSeen ? html` <span class="quiet">seen <${Ago} at=${agent.lastSeen} suffix=" ago" /></span>` : null}</p>
    </div></div>
    ${agent.description && html`<p class="description"><${Peer} text=${agent.description} /></p>`}
    <dl class="facts">
      <${Fact} name="can">${agent.capabilities.length > 0 && html`<span class="chips">${agent.capabilities.map((c) => html`<span class="chip" key=${c}><${Peer} text=${c} /></span>`)}</span>`}<//>
      <${Fact} name="host">${agent.link ? html`<a href="/hosts">${visible(agent.host)}</a>, link ${agent.link}` : html`${visible(agent.host)}, this one`}<//>
      <${Fact} name="platform">${agent.platform && html`<${Peer} text=${agent.platform} />`}<//>
      <${Fact} name="mail">${count(agent.unread, "message")} unread, ${agent.listening ? "a stream is open" : "no stream is open"}<//>
      <${Fact} name="learns of it">${agent.wake && !agent.human && { push: "at once, without its doing", "turn-end": "at the end of its turn, or at the next prompt", manual: "when its session looks", none: "not at all: nobody is there" }[agent.wake]}<//>
      <${Fact} name="waits for">${wait && html`${wait.what} ${wait.people.map((p, i) => html`${i > 0 && ", "}<${Name} address=${p} />`)} <a class="quiet" href=${wait.href}>for <${Ago} at=${wait.since} live /></a>`}<//>
      <${Fact} name="takes calls from">${agent.accepts}<//>
      <${Fact} name="open">${count(agent.open, "conversation")}<//>
    </dl>
    <${Terms} agent=${agent} />
    ${agent.address === person.value && html`<${Mail} />`}
    ${isOperator.value && agent.address !== person.value && html`<div class="operator-part"><${StandingControls} agent=${agent} />${!agent.human && html`<${WriteTo} agent=${agent} />`}</div>`}
    <${CallsOf} key=${agent.address} agent=${agent} />
    <h2>Conversations</h2>
    ${mine.length === 0 && html`<p class="empty">None that is known here.</p>`}
    <ul class="plain-list">${mine.slice(0, 100).map((c) => html`<li key=${c.id}><${ConversationRow} c=${c} /></li>`)}</ul>
  </section>`;
}

const callsShown = 50;

/** The calls of an agent, those of the past too. @param {{agent: Agent}} props */
function CallsOf({ agent: { address, unregistered } }) {
  const [past, setPast] = useState({ requests: /** @type {Request[]} */ ([]), more: 0 });
  const [error, setError] = useState(/** @type {any} */ (null));
  const told = useRef(/** @type {Request[]} */ ([])); // since they were asked for
  const isLive = link.value.state === "live";
  useEffect(() => {
    if (unregistered || !isLive) return;
    let over = false;
    ask("GET", `/v1/requests?with=${encodeURIComponent(address)}&limit=${callsShown}`).then((list) => {
      if (over) return;
      told.current = [];
      setPast(list);
      setError(null);
    }, (err) => over || setError(err));
    return () => void (over = true);
  }, [address, isLive]);
  const now = [...requests.value.values()].filter((r) => r.from === address || r.to.includes(address));
  const byId = new Map([...past.requests, ...told.current, ...now].map((r) => [r.id, r])); // the newer word counts
  const calls = [...byId.values()].sort((a, b) => b.createdAt - a.createdAt).slice(0, callsShown);
  told.current = calls;
  if (calls.length === 0 && !error) return null;
  return html`<h2>Calls</h2><${Failure} error=${error} />
    <ul class="request-list" aria-label="Calls of ${visible(local(address))}">${calls.map((r) => html`<li key=${r.id}><${RequestLine} r=${r} /></li>`)}</ul>
    ${past.more > 0 && html`<p class="quiet">There may be older ones.</p>`}`;
}

/** @param {{name: string, children?: any}} props */
function Fact({ name, children }) {
  return [children].flat().some((c) => c) ? html`<div><dt>${name}</dt><dd>${children}</dd></div>` : null;
}

/** Fetches what a view lacks, once for each name. @param {string} name @param {boolean} have @param {() => Promise<void>} fetch @returns {any} the error */
function useFetched(name, have, fetch) {
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    setError(null);
    if (!have) fetch().catch(setError);
  }, [name, have]);
  return error;
}

// ---- a call -----------------------------------------------------------------------------

/** A call: who asks whom for what, and what came of it. @param {{request: string}} props */
export function RequestPage({ request }) {
  const [old, setOld] = useState(/** @type {Request|null} */ (null));
  const live = [...requests.value.values()].find((r) => r.ref === request || r.id === request);
  const error = useFetched(request, live !== undefined, async () => setOld(await ask("GET", `/v1/requests/${encodeURIComponent(request)}`)));
  const r = live ?? old;
  const title = r ? `Call: ${visible(r.topic) || visible(local(r.from)) + " calls"}` : `Call ${visible(request)}`;
  if (!r) return html`<section class="sheet"><${Heading} title=${title} focus=${request} /><${Failure} error=${error} />${!error && html`<p class="empty">Loading…</p>`}</section>`;
  return html`<section class="sheet scroller request-page">
    <${Heading} title=${title} focus=${request} />
    <p class="sub"><span class="chip ${r.state}">${r.state}</span> ${r.state === "ringing" && html`<${Countdown} until=${r.ringUntil ?? 0} />`} <span class="ref">${r.ref}</span></p>
    <dl class="facts">
      <${Fact} name="from"><${Name} address=${r.from} /><//>
      <${Fact} name="placed"><time datetime=${iso(r.createdAt)}>${exact(r.createdAt)}</time>, <${Ago} at=${r.createdAt} live suffix=" ago" /><//>
      <${Fact} name="mode">${r.mode}<//>
      <${Fact} name="turn limit">${r.turnLimit}<//>
      <${Fact} name="conversation">${r.conversationRef && html`<a href=${conversationPath(r.conversationRef)}>${r.conversationRef}</a>`}<//>
      <${Fact} name="next one of the match">${r.next && html`<a href=${requestPath(r.next)}>who was asked next</a>`}<//>
    </dl>
    ${person.value && html`<${Answer} r=${r} />`}
    ${r.content && html`<h2>What it asks</h2><p class="plain-text"><${Lines} text=${r.content} /></p>`}
    <h2>Whom it asks</h2>
    <ul class="callees">${r.callees.map((c) => html`<li key=${c.agent}><${Avatar} address=${c.agent} /> <${Name} address=${c.agent} /> <span class="chip ${c.state}">${c.state}</span>
      ${c.reason && html` <q><${Peer} text=${c.reason} /></q>`} <span class="quiet"><${Ago} at=${c.at} live suffix=" ago" /></span></li>`)}</ul>
  </section>`;
}

/** A text of others with its lines. @param {{text: string}} props */
function Lines({ text }) {
  return text.split(/\r?\n/).map((line, i) => html`${i > 0 && html`<br />`}<${Peer} text=${line} />`);
}

// ---- nobody is signed in -----------------------------------------------------------------

/** What stands where there is no session: how to get one. */
export function SignIn() {
  return html`<main id="main" class="alone"><section class="sign-in">
    <span class="mark large" aria-hidden="true"></span>
    <${Heading} title="Sign in to duo" focus="sign-in" />
    ${signedOut.value && html`<p class="failure" role="alert">${signedOut.value}</p>`}
    <p>This page shows what the agents of a host say to each other. It is for the user of that host: in a terminal there, run</p>
    <p class="command"><code>duo open</code><button class="small" onClick=${() => void copy("duo open", "Command")}>Copy</button></p>
    <p class="quiet">It opens this page with a link that works once, within five minutes. <code>duo open --operator</code> also lets you write, close conversations, and mute or block agents.</p>
  </section></main>`;
}
