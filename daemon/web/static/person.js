// @ts-check
// The person as whom an operator speaks: what others have written to it, word to the daemon
// of what it was shown, and its answers to calls.

import { computed, useEffect, useRef, useState } from "./vendor/preact.js";
import { Ago, Failure, Name, Peer, count, html, local, toast } from "./ui.js";
import { conversationPath, navigate, requestPath } from "./router.js";
import { agents, ask, isOperator, keepAgent, onResume, session } from "./store.js";

/** @typedef {{ref: string, conversation: string, seq: number, topic: string, type: string, from: string, timestamp: number, preview: string, status?: string}} Item */

const gatherFor = 300; // ms that places are gathered before the daemon is told
const most = 200; // places that it is told at a time
const itemsShown = 50; // of the mail, the oldest first

/** The address of the person; empty where nobody speaks. */
export const person = computed(() => (isOperator.value ? (session.value?.human ?? "") : ""));

/** The name that a request is made in. */
export const speaker = () => local(person.value);

/** How much was written to the person and not shown to it. */
export const unread = computed(() => agents.value.get(person.value)?.unread ?? 0);

// ---- what was shown -------------------------------------------------------------------

/** @typedef {{conversation: string, seq: number}|{request: string}} Place */

/** What the daemon was not told yet. @type {Map<string, Place>} */
const waiting = new Map();
let timer = 0;

/** Notes that the person was shown a line, or what was told of a call. @param {Place} place */
export function shown(place) {
  waiting.set(JSON.stringify(place), place);
  timer ||= setTimeout(tell, gatherFor);
}

async function tell() {
  timer = 0;
  const some = [...waiting].slice(0, most);
  if (some.length === 0 || !person.value) return waiting.clear();
  try {
    await ask("POST", "/v1/me/seen", { as: speaker(), body: { messages: some.map(([, place]) => place) } });
    keepAgent(await ask("GET", "/v1/me", { as: speaker() }));
  } catch (err) {
    if (/** @type {import("./store.js").Problem} */ (err).status === 0) return; // it is told when the daemon is back
  }
  for (const [key] of some) waiting.delete(key);
  if (waiting.size > 0) timer ||= setTimeout(tell, gatherFor);
}

onResume(() => void tell());

// ---- the mail -------------------------------------------------------------------------

/** How much mail there is, in the head of the page. */
export function MailCount() {
  const before = useRef(Infinity); // what waits when the page is opened is no news
  useEffect(() => {
    if (!agents.value.has(person.value)) return;
    if (unread.value > before.current) toast(`${count(unread.value, "message")} to you`);
    before.current = unread.value;
  }, [unread.value, agents.value.has(person.value)]);
  if (!person.value) return null;
  return html`<a class="mail ${unread.value > 0 ? "has-mail" : ""}" href="/a/${encodeURIComponent(speaker())}" title="what agents have written to you, and you have not looked at">${unread.value} to you</a>`;
}

/** What was written to the person and not shown to it. */
export function Mail() {
  const [items, setItems] = useState(/** @type {Item[]|null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let over = false;
    ask("GET", `/v1/me/inbox?limit=${itemsShown}`, { as: speaker() }).then((inbox) => over || (setItems(inbox.items), setError(null)), (err) => over || setError(err));
    return () => void (over = true);
  }, [unread.value]);
  return html`<h2>To you</h2><${Failure} error=${error} />
    ${items?.length === 0 && html`<p class="empty">Nothing that you have not looked at.</p>`}
    <ul class="latest" aria-label="To you">${items?.map((item) => html`<li key=${item.ref}><${MailLine} item=${item} /></li>`)}</ul>
    ${items?.length === itemsShown && unread.value > itemsShown && html`<p class="quiet">and ${count(unread.value - itemsShown, "more message")}</p>`}`;
}

/** @param {{item: Item}} props */
function MailLine({ item }) {
  const isCall = !item.conversation;
  return html`<a class="latest-line" href=${isCall ? requestPath(item.ref) : conversationPath(item.ref.replace(/\.\d+$/, ""), item.seq)}>
    <span class="latest-body"><span class="latest-top"><${Name} address=${item.from} plain /> ${isCall ? html`<span class="chip ${item.status}">call ${item.status}</span>` : html`<span class="in">in</span>`} <span class="topic"><bdi><${Peer} text=${item.topic || "a direct conversation"} /></bdi></span></span>
    <span class="latest-text"><bdi><${Peer} text=${item.preview || "(no text)"} /></bdi></span></span>
    <span class="when"><${Ago} at=${item.timestamp} /></span></a>`;
}

// ---- calls ------------------------------------------------------------------------------

const canAnswer = ["ringing", "queued", "missed", "busy"];

/** How the person answers a call to it. @param {{r: import("./store.js").Request}} props */
export function Answer({ r }) {
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const mine = r.callees.find((c) => c.agent === person.value);
  useEffect(() => {
    if (mine) shown({ request: r.id });
  }, [r.id, r.state, mine !== undefined]);
  if (!mine || r.over || !canAnswer.includes(mine.state)) return null;
  /** @param {"accept"|"reject"} how */
  const answer = async (how) => {
    setBusy(true);
    setError(null);
    try {
      const called = await ask("POST", `/v1/requests/${r.id}/${how}`, { as: speaker(), body: {} });
      if (how === "accept" && called.conversation) navigate(conversationPath(called.conversation.ref));
      else toast("The call is declined");
    } catch (err) {
      setError(err);
    }
    setBusy(false);
  };
  return html`<div class="buttons answer" role="group" aria-label="Your answer">
    <button class="primary" disabled=${busy} onClick=${() => void answer("accept")}>Accept</button><button disabled=${busy} onClick=${() => void answer("reject")}>Decline</button></div>
    <${Failure} error=${error} />`;
}
