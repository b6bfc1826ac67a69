// @ts-check
// The hosts that this one is linked with.

import { Ago, Countdown, Heading, Peer, State, count, html, visible } from "./ui.js";
import { agents, conversations, loaded, peers, session } from "./store.js";
import { agentPath, conversationPath } from "./router.js";

/** @typedef {import("./store.js").Peer} Peer */

const words = { up: "up", down: "down", dialing: "dialling", hello: "greeting", held: "held" };

/** The links of this host. */
export function Hosts() {
  const { host, hostId, version } = session.value ?? { host: "", hostId: "", version: "" };
  return html`<section class="sheet scroller hosts">
    <${Heading} title="Hosts" focus="hosts" />
    <p class="sub">This one is <b>${visible(host)}</b> <code class="id">${visible(hostId)}</code> <span class="quiet">duo ${visible(version)}</span></p>
    ${peers.value.length === 0 && html`<p class="empty">${loaded.value ? html`It is linked with no other. <code>duo pair</code> on one of them makes a code, <code>duo pair CODE</code> on the other uses it.` : "Loading…"}</p>`}
    <ul class="host-list">${peers.value.map((p) => html`<li key=${p.id}><${Host} p=${p} /></li>`)}</ul>
  </section>`;
}

/** @param {{p: Peer}} props */
function Host({ p }) {
  const people = [...agents.value.values()].filter((a) => a.host === p.name && !a.unregistered);
  const state = p.state === "up" ? "available" : p.state === "dialing" || p.state === "hello" ? "ringing" : p.state === "held" ? "busy" : "offline";
  return html`<article class="host-card" aria-labelledby=${"host-" + p.id}>
    <header><h2 id=${"host-" + p.id}><bdi><${Peer} text=${p.name} /></bdi></h2><${State} state=${state} word=${words[/** @type {keyof typeof words} */ (p.state)] ?? p.state} />
      ${p.since ? html`<span class="quiet">for <${Ago} at=${p.since} live /></span>` : null}</header>
    <dl class="facts">
      <div><dt>waiting</dt><dd class=${p.waiting > 0 ? "pressing" : ""}>${count(p.waiting, "envelope")}</dd></div>
      <div><dt>delay</dt><dd>${p.state === "up" && p.delay ? milliseconds(p.delay) : "–"}</dd></div>
      <div><dt>agents</dt><dd>${people.length === 0 ? "none known" : people.slice(0, 12).map((a, i) => html`${i > 0 && ", "}<a href=${agentPath(a.address)}><bdi><${Peer} text=${a.name} /></bdi></a>`)}${people.length > 12 && ` and ${people.length - 12} more`}</dd></div>
      <div><dt>way</dt><dd>${way(p)}</dd></div>
      <div><dt>dialled at</dt><dd>${p.address ? html`<code>${visible(p.address)}</code>` : "nowhere: it dials"}</dd></div>
      ${roles(p) && html`<div><dt>relay</dt><dd>${roles(p)}</dd></div>`}
      ${p.state !== "up" && p.dialAt ? html`<div><dt>dialled next</dt><dd>in <${Countdown} until=${p.dialAt} /></dd></div>` : null}
      <div><dt>key</dt><dd><code class="id">${visible(p.key)}</code></dd></div>
    </dl>
    ${p.problem && html`<p class="failure"><${Peer} text=${p.problem} />${p.problemAt ? html` <span class="quiet"><${Ago} at=${p.problemAt} live suffix=" ago" /></span>` : null}</p>`}
    ${(p.resting ?? []).map((r) => html`<p class="failure" key=${r.conversation}>The link carries <a href=${conversationPath(r.conversation, r.seq)}>${visible(conversations.value.get(r.conversation)?.ref ?? r.conversation.slice(-8))}</a> no more${r.fork && ": both hosts have a line there, and not the same one"}. <${Peer} text=${r.why} /></p>`)}
  </article>`;
}

/** @param {number} micros */
const milliseconds = (micros) => (micros < 10000 ? (micros / 1000).toFixed(1) : Math.round(micros / 1000).toString()) + " ms";

/** @param {Peer} p */
function way(p) {
  if (p.via) return `through ${visible(p.via)}, which carries sealed bytes`;
  if (p.state !== "up") return "straight";
  return p.dialled ? "straight, dialled from here" : "straight, dialled from there";
}

/** @param {Peer} p */
function roles(p) {
  return [p.relay && "carries for this host", p.carry && "this host carries for it"].filter(Boolean).join(", ");
}
