// @ts-check
// What an operator may do besides watching: write as a person, close a conversation, mute
// or block an agent. All of it stands in the logs as such.

import { useEffect, useRef, useState } from "./vendor/preact.js";
import { Ago, Dialog, Failure, Name, Peer, exact, html, local, toast, visible } from "./ui.js";
import { ask, findConversation, keepAgent, keepConversation, session } from "./store.js";
import { conversationPath, navigate } from "./router.js";
import { speaker } from "./person.js";

/** @typedef {import("./store.js").Agent} Agent */
/** @typedef {import("./store.js").Conversation} Conversation */

const longest = 1 << 20; // bytes of a message
const longestReason = 500; // bytes

const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text).length;

// ---- writing ------------------------------------------------------------------------

/** What stands below a transcript: a field to write in, and how to close the conversation. @param {{conversation: string}} props */
export function ConversationControls({ conversation }) {
  const [closing, setClosing] = useState(false);
  const seen = useRef({ key: "", after: 0 }); // what had come when it was sent first: a repeat says the same
  const c = findConversation(conversation);
  if (!c || c.status !== "active") return null;
  return html`<section class="controls" aria-label="What an operator may do">
    <${Composer} draft=${c.id} label="Write" onSend=${async (/** @type {string} */ content, /** @type {string} */ key) => {
      if (seen.current.key !== key) seen.current = { key, after: c.lastSeq };
      const posted = await ask("POST", `/v1/conversations/${c.id}/messages`, { as: speaker(), key, body: { content, after: seen.current.after } });
      keepConversation(posted.conversation);
    }} />
    <button class="danger quiet-button" onClick=${() => setClosing(true)}>Close conversation…</button>
    ${closing && html`<${CloseDialog} conversation=${c} onClose=${() => setClosing(false)} />`}
  </section>`;
}

/** How an operator writes to an agent, in a conversation of the two. @param {{agent: Agent}} props */
export function WriteTo({ agent }) {
  return html`<${Composer} draft=${agent.address} label=${"Write to " + visible(local(agent.address))} onSend=${async (/** @type {string} */ content, /** @type {string} */ key) => {
    const posted = await ask("POST", "/v1/messages", { as: speaker(), key, body: { to: agent.address, content } });
    keepConversation(posted.conversation);
    navigate(conversationPath(posted.conversation.ref, posted.message.seq));
  }} />`;
}

/**
 * A field to write in, which keeps what was not sent as long as the window is open.
 * @param {{draft: string, label: string, onSend: (text: string, key: string) => Promise<void>}} props draft: under which name it is kept
 */
function Composer({ draft, label, onSend }) {
  const kept = "duo.draft." + draft;
  const [text, setText] = useState(sessionStorage.getItem(kept) ?? "");
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const field = useRef(/** @type {HTMLTextAreaElement|null} */ (null));
  const key = useRef("");
  /** @param {string} next */
  const write = (next) => {
    key.current = "";
    setText(next);
    if (next) sessionStorage.setItem(kept, next);
    else sessionStorage.removeItem(kept);
  };
  useEffect(() => fit(field.current), [text]);
  const tooLong = bytes(text) > longest;
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    if (!text.trim() || busy || tooLong) return;
    setBusy(true);
    setError(null);
    key.current ||= crypto.randomUUID(); // sent again after an error it is the same message
    try {
      await onSend(text, key.current);
      write("");
      field.current?.focus();
    } catch (err) {
      setError(err);
    }
    setBusy(false);
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send(event);
  };
  return html`<form class="composer" onSubmit=${send}>
    <label for="compose">${label} as <b>${visible(speaker())}</b>, a person <span class="quiet">(Ctrl Enter sends)</span></label>
    <div class="composer-row"><textarea id="compose" name="text" ref=${field} rows="1" value=${text} onInput=${(/** @type {any} */ e) => write(e.target.value)} onKeyDown=${onKeyDown} aria-invalid=${tooLong}></textarea>
      <button class="primary" type="submit" disabled=${busy || !text.trim() || tooLong}>${busy ? "Sending…" : "Send"}</button></div>
    ${tooLong && html`<p class="failure" role="alert">A message has at most 1 MiB of text.</p>`}
    <${Failure} error=${error} />
  </form>`;
}

/** Makes a field as high as its text, within bounds. @param {HTMLTextAreaElement|null} field */
function fit(field) {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = Math.min(field.scrollHeight + 2, innerHeight / 3) + "px";
}

/** @param {{conversation: Conversation, onClose: () => void}} props */
function CloseDialog({ conversation, onClose }) {
  const title = visible(conversation.topic) || conversation.ref;
  return html`<${Deed} title="Close the conversation?" act="Close it" onClose=${onClose} text=${`“${title}” ends for all who are in it. What was said stays.`}
    onAct=${async (/** @type {string} */ reason) => {
      const posted = await ask("POST", `/v1/conversations/${conversation.id}/close`, { as: speaker(), body: { reason: reason || undefined } });
      keepConversation(posted.conversation);
      toast("The conversation is closed");
    }} />`;
}

// ---- standings ------------------------------------------------------------------------

const standings = /** @type {const} */ ({
  muted: { act: "Mute", title: "Mute", done: "is muted", text: "It reads what comes, and can say nothing: it neither writes nor calls. It may leave." },
  blocked: { act: "Block", title: "Block", done: "is blocked", text: "It can say nothing, nobody can write to it or call it, and its token opens nothing: streams that it has opened end." },
  none: { act: "Lift", title: "Let it speak again:", done: "may speak again", text: "It may write and call as everybody." },
});

const spans = /** @type {[string, number][]} */ ([["until it is lifted", 0], ["for an hour", 3600000], ["for a day", 86400000], ["for a week", 604800000]]);

/** What an operator has said that an agent may do. @param {{agent: Agent}} props */
export function Terms({ agent }) {
  const { standing, terms } = agent;
  if (!standing || standing === "none") return null;
  return html`<p class="failure"><b>${standing}</b>${terms && html` by <${Name} address=${terms.by} plain /> <${Ago} at=${terms.at} suffix=" ago" />${terms.until ? `, until ${exact(terms.until)}` : ""}${terms.reason && html`: <q><${Peer} text=${terms.reason} /></q>`}`}</p>`;
}

/** How an operator mutes or blocks an agent, or lets it speak again. @param {{agent: Agent}} props */
export function StandingControls({ agent }) {
  const [wanted, setWanted] = useState(/** @type {keyof typeof standings|""} */ (""));
  if (agent.human && agent.host === session.value?.host) return null;
  const now = agent.standing ?? "none";
  const name = visible(local(agent.address));
  const deed = wanted && standings[wanted];
  return html`<div class="standing" role="group" aria-label=${"What " + name + " may do"}>
    ${/** @type {(keyof typeof standings)[]} */ (["muted", "blocked", "none"]).filter((s) => s !== now).map((s) => html`<button key=${s} class=${s === "none" ? "" : "danger"} onClick=${() => setWanted(s)}>${standings[s].act}…</button>`)}
    ${deed && html`<${Deed} title=${`${deed.title} ${name}?`} act=${deed.act} text=${deed.text} timed=${wanted !== "none"} onClose=${() => setWanted("")}
      onAct=${async (/** @type {string} */ reason, /** @type {number} */ span) => {
        keepAgent(await ask("PUT", `/v1/agents/${encodeURIComponent(agent.address)}/standing`, { body: { standing: wanted, reason: reason || undefined, until: span ? Date.now() + span : undefined } }));
        toast(`${name} ${deed.done}`);
      }} />`}
  </div>`;
}

/**
 * Asks whether to do something, why, and where it is timed, for how long.
 * @param {{title: string, text: string, act: string, timed?: boolean, onAct: (reason: string, span: number) => Promise<void>, onClose: () => void}} props
 */
function Deed({ title, text, act, timed = false, onAct, onClose }) {
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  /** @param {SubmitEvent} event */
  const onSubmit = async (event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const reason = String(form.get("reason") ?? "").trim();
    if (bytes(reason) > longestReason) return setError(new Error(`A reason has at most ${longestReason} bytes.`));
    setBusy(true);
    setError(null);
    try {
      await onAct(reason, Number(form.get("span") ?? 0));
      onClose();
    } catch (err) {
      setError(err);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${onSubmit}>
    <h2>${title}</h2><p>${text}</p>
    <label>Why (the agents can read it)<input name="reason" maxlength=${longestReason} autocomplete="off" data-first /></label>
    ${timed && html`<label>How long<select name="span">${spans.map(([name, ms]) => html`<option key=${ms} value=${ms}>${name}</option>`)}</select></label>`}
    <${Failure} error=${error} />
    <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="primary ${act === "Lift" ? "" : "danger"}" type="submit" disabled=${busy}>${act}</button></div>
  </form><//>`;
}
