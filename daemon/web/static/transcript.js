// @ts-check
// The transcript of one conversation: who is in it, what was said, and how far it got.

import { batch, signal, useEffect, useLayoutEffect, useMemo, useRef, useSignal } from "./vendor/preact.js";
import { formats, saveConversation } from "./download.js";
import { follow, Lines } from "./lines.js";
import { stateOf } from "./lists.js";
import { LogWindow } from "./logwindow.js";
import { navigate, conversationPath, requestPath, route } from "./router.js";
import { agents, ask, findConversation, link, listen, look, requests, typing } from "./store.js";
import { announce, count, Countdown, exact, Failure, Heading, html, iso, local, Name, Peer, second, State, visible } from "./ui.js";
import { oneLine, stateOf as reachOf } from "./article.js";
import { person, shown } from "./person.js";
import { summary } from "./sentence.js";

/** @typedef {import("./logwindow.js").Message} Message */
/** @typedef {import("./store.js").Conversation} Conversation */
/** @typedef {import("./store.js").Envelope} Envelope */

const fewPeople = 12; // whose presence stands in the head

/** @param {string} ref of the conversation */
function newView(ref) {
  const path = `/v1/conversations/${encodeURIComponent(ref)}/view?`;
  return {
    log: new LogWindow((query) => ask("GET", path + query)),
    current: signal(0),
    wanted: signal(/** @type {{seq: number}|null} */ (null)),
    progress: signal(/** @type {import("./article.js").Progress} */ (new Map())),
  };
}

/** @typedef {ReturnType<typeof newView>} View */

/** The transcript of a conversation. @param {{conversation: string}} props */
export function Transcript({ conversation: ref }) {
  const view = useMemo(() => newView(ref), [ref]);
  const { log } = view;
  const { visit, seq } = route.value;
  useLayoutEffect(() => void show(view, seq), [view, visit]);
  useEffect(() => listen((lines) => hear(view, lines)), [view]);
  const lives = useRef(0);
  useEffect(() => {
    if (link.value.state === "live") void (lives.current++ === 0 ? log.heard(0) : log.refresh());
  }, [view, link.value.state]);
  useEffect(() => {
    const lookHere = () => {
      if (!document.hidden && log.following.value && log.atEnd && log.conversation.value) look(log.conversation.value.id, log.end);
    };
    lookHere();
    document.addEventListener("visibilitychange", lookHere);
    return () => document.removeEventListener("visibilitychange", lookHere);
  }, [log.span.value, log.following.value]);

  const known = log.conversation.value ?? findConversation(ref);
  if (!known) return html`<section class="sheet"><${Missing} name=${ref} problem=${log.problem.value} /></section>`;
  const c = newest(known, findConversation(known.id));
  return html`<section class="transcript" aria-label="Transcript">
    <${Top} c=${c} />
    <${Places} view=${view} c=${c} />
    ${log.problem.value && html`<${Failure} error=${log.problem.value} />`}
    <div class="lines-frame">
      <${Lines} ...${view} conversation=${c.ref} onSight=${person.value ? (/** @type {number[]} */ seqs) => inSight(view, seqs) : undefined} />
      <${NewBelow} log=${log} />
    </div>
    <${Bottom} c=${c} />
  </section>`;
}

/** Which of two descriptions of a conversation tells more. @param {Conversation} a @param {Conversation|undefined} b */
const newest = (a, b) => (b && b.lastSeq >= a.lastSeq ? b : a);

/** @param {{name: string, problem: any}} props */
function Missing({ name, problem }) {
  if (!problem) return html`<${Heading} title="Conversation" focus=${name} /><p class="quiet">Loading…</p>`;
  const isGone = problem.status === 404;
  return html`<${Heading} title=${isGone ? "No such conversation" : "The conversation cannot be shown"} focus=${name} />
    ${isGone ? html`<p>Nothing here is called <code><${Peer} text=${name} /></code>. It may be of another host, or the link was cut short.</p>` : ""}
    <${Failure} error=${problem} />
    <p><a href="/">All conversations</a></p>`;
}

/**
 * Shows a message, or the end of the log.
 * @param {View} view
 * @param {number} seq 0 for the end
 */
async function show({ log, current, wanted }, seq) {
  if (!seq) return void (log.end === 0 && await log.open());
  batch(() => {
    log.following.value = false;
    current.value = seq;
    wanted.value = { seq };
  });
  const isHeld = log.end > 0 && seq >= log.begin && seq <= log.end;
  if (isHeld || !await log.open(seq)) return;
  if (seq > log.end) [current.value, wanted.value] = [log.end, { seq: log.end }]; // there is no such message yet
}

/** Takes in what the stream carries. @param {View} view @param {Envelope[]} lines */
function hear({ log, progress }, lines) {
  const id = log.conversation.value?.id;
  let reach = 0;
  /** @type {import("./article.js").Progress|null} */
  let next = null;
  for (const line of lines) {
    if (!id || line.conversation !== id) continue;
    if (line.type === "receipt") {
      next ??= new Map(progress.value);
      next.set(line.agent, { delivered: line.delivered ?? 0, seen: line.seen ?? 0 });
    } else if (line.seq) {
      reach = Math.max(reach, line.seq);
      announce(line.type === "message" ? `${visible(local(line.from))}: ${visible(oneLine(line.content))}` : summary(/** @type {any} */ (line)));
    }
  }
  if (next) progress.value = next;
  if (reach) void log.heard(reach);
}

/** Notes what the person who reads is shown of its mail. @param {View} view @param {number[]} seqs */
function inSight({ log, progress }, seqs) {
  const isMail = (/** @type {Message} */ m) => m.recipients?.some((r) => r.agent === person.value && reachOf(m, r, progress.value) !== "seen");
  for (const m of log.span.value.messages) if (seqs.includes(m.seq) && isMail(m)) shown({ conversation: log.conversation.value.id, seq: m.seq });
}

/** @param {{c: Conversation}} props */
function Top({ c }) {
  const people = c.participants.length;
  const title = c.topic ? visible(c.topic) : "Direct conversation";
  const call = useCall(c.request ?? "");
  return html`<header class="transcript-head">
    <div class="title-line">
      <${Heading} title=${title} focus=${c.id}>${c.topic ? html`<${Peer} text=${c.topic} />` : title}<//>
      <${State} state=${c.status} />
    </div>
    <p class="about-line"><code>${c.ref}</code>${" · "}${c.mode}${c.open ? " · anybody may join" : ""}${" · "}${
      c.turnLimit ? html`turn ${c.turns} of ${c.turnLimit}` : count(c.turns, "message")}${" · "}since ${exact(c.createdAt)}${call ? html`, after <a href=${requestPath(call.ref)}>a call</a>` : c.request && ", after a call"}</p>
    <ul class="members" aria-label=${count(people, "participant")}>
      ${c.participants.slice(0, fewPeople).map((p) => html`<li key=${p}><${Person} address=${p} /></li>`)}
      ${people > fewPeople && html`<li class="quiet">and ${people - fewPeople} more</li>`}
      ${call && html`<${Absent} c=${c} call=${call} />`}
      ${(c.left ?? []).slice(0, fewPeople).map((p) => html`<li key=${p} class="quiet"><${Name} address=${p} /> left</li>`)}
    </ul>
  </header>`;
}

/** @type {Record<string, string>} */
const absent = { ringing: "rings", queued: "was not there: the call waits", missed: "missed the call", busy: "was busy", rejected: "declined", cancelled: "is called no more" };

/** Whom the call that a conversation came of has not brought in, and why. @param {{c: Conversation, call: import("./store.js").Request}} props */
function Absent({ c, call }) {
  const here = [...c.participants, ...(c.left ?? [])];
  return call.callees.filter((callee) => callee.state !== "accepted" && !here.includes(callee.agent)).slice(0, fewPeople)
    .map((callee) => html`<li key=${callee.agent}><${Name} address=${callee.agent} /> <span class="chip ${callee.state}">${absent[callee.state] ?? callee.state}</span>${
      callee.state === "ringing" && call.ringUntil ? html` <${Countdown} until=${call.ringUntil} />` : ""}</li>`);
}

/** A call as it stands, or as it was when it was told of last; null where nothing is known of it. @param {string} id @returns {import("./store.js").Request|null} */
function useCall(id) {
  const old = useSignal(/** @type {import("./store.js").Request|null} */ (null));
  const now = requests.value.get(id);
  useEffect(() => {
    if (now) old.value = now;
    else if (id && old.peek()?.id !== id) void ask("GET", `/v1/requests/${encodeURIComponent(id)}`).then((r) => (old.value = r), () => {}); // it may be another host's, or long ago
  }, [id, now]);
  return now ?? old.value;
}

/** @param {{address: string}} props */
function Person({ address }) {
  const agent = agents.value.get(address);
  return html`<${Name} address=${address} />${agent ? html` <${State} ...${stateOf(agent)} />` : ""}`;
}

/** Where one can go in the log. @param {{view: View, c: Conversation}} props */
function Places({ view, c }) {
  const { log } = view;
  const said = useSignal("");
  /** @param {number} seq */
  const go = (seq) => navigate(conversationPath(c.ref, seq), { replace: true });
  /** @param {SubmitEvent} event */
  const onSubmit = (event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("seq"));
    const seq = Number(field.value.replace("#", ""));
    if (Number.isInteger(seq) && seq > 0) go(Math.min(seq, log.known));
  };
  /** @param {Event} event */
  const onDate = async (event) => {
    const day = new Date(/** @type {HTMLInputElement} */ (event.target).value + "T00:00");
    if (!Number.isNaN(day.getTime())) go(await log.seqAt(day.getTime()));
  };
  return html`<div class="places-bar" role="group" aria-label="Places in the conversation">
    <button type="button" onClick=${() => go(1)}>First</button>
    <form onSubmit=${onSubmit}><label>Go to <input name="seq" inputmode="numeric" pattern="#?[0-9]*" size="7" placeholder=${`1–${Math.max(1, log.span.value.last)}`} autocomplete="off" /></label></form>
    <label><span class="day-word">Day</span> <input type="date" max=${isoDay(Date.now())} min=${isoDay(c.createdAt)} onChange=${onDate} /></label>
    <button type="button" aria-pressed=${log.following.value} onClick=${() => void follow(log)} title="Stay at the end as it grows (f)">Follow</button>
    <span class="spring"></span>
    <a class="button" href=${`/c/${encodeURIComponent(c.ref)}/sequence`}>Sequence</a>
    <${Menu} word="Export" choices=${formats.map(([format, word, ending]) => ({ word, act: async () => (said.value = await saveConversation(c.ref, format, ending)) }))} />
    ${said.value && html`<p class="failure" role="alert">${said.value}</p>`}
  </div>`;
}

/** A button that opens a few others. @param {{word: string, choices: {word: string, act: () => void}[]}} props */
function Menu({ word, choices }) {
  const ref = useRef(/** @type {HTMLDetailsElement|null} */ (null));
  const close = () => ref.current?.removeAttribute("open");
  useEffect(() => {
    const onPointer = (/** @type {PointerEvent} */ event) => void (ref.current?.contains(/** @type {Node} */ (event.target)) || close());
    document.addEventListener("pointerdown", onPointer);
    return () => document.removeEventListener("pointerdown", onPointer);
  }, []);
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.key !== "Escape" || !ref.current?.open) return;
    event.preventDefault();
    close();
    ref.current.querySelector("summary")?.focus();
  };
  return html`<details class="menu" ref=${ref} onKeyDown=${onKeyDown}><summary>${word}</summary><div class="menu-box">
    ${choices.map((choice) => html`<button type="button" key=${choice.word} onClick=${() => [close(), choice.act()]}>${choice.word}</button>`)}
  </div></details>`;
}

/** A day as fields of forms have it. @param {number} at Unix milliseconds */
function isoDay(at) {
  return iso(at - new Date(at).getTimezoneOffset() * 60000)?.slice(0, 10);
}

/** @param {{log: LogWindow}} props */
function NewBelow({ log }) {
  if (log.following.value || log.end === 0) return null;
  const n = log.unseen.value;
  return html`<button type="button" class=${`to-end${n > 0 ? " has-new" : ""}`} onClick=${() => void follow(log)}>${n > 0 ? `${n.toLocaleString("en")} new` : "To the end"} <span aria-hidden="true">↓</span></button>`;
}

/** What is going on at the end of the log. @param {{c: Conversation}} props */
function Bottom({ c }) {
  if (c.status === "closed") return html`<p class="ending">Closed${c.reason ? html`: <q><${Peer} text=${c.reason} /></q>` : "."}</p>`;
  if (c.status === "damaged") return html`<p class="ending failure">The log is damaged behind #${c.lastSeq}: what stands there is not shown, and nothing more is taken. <span class="next">next: <code>duo fsck</code></span></p>`;
  if (c.turnLimit && c.turns >= c.turnLimit) return html`<p class="ending">All ${c.turnLimit} turns are used: nobody can say more here.</p>`;
  const who = [...(typing.value.get(c.id) ?? [])].filter(([, until]) => until > second.value).map(([address]) => visible(local(address)));
  return html`<p class="typing">${who.length > 0 && html`${who.slice(0, 3).join(", ")} ${who.length > 3 ? `and ${who.length - 3} more ` : ""}${who.length > 1 ? "are" : "is"} typing<span class="dots" aria-hidden="true"></span>`}</p>`;
}
