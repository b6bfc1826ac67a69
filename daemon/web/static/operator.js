// @ts-check
// What an operator may do besides watching: write as a person, close a conversation, mute
// or block an agent. All of it stands in the logs as such.

import { useEffect, useRef, useState } from "./vendor/preact.js";
import { Dialog, Failure, html, local, toast, visible } from "./ui.js";
import { ask, findConversation, keepAgent, keepConversation, session } from "./store.js";

const longest = 1 << 20; // bytes of a message

/** What stands below a transcript: a field to write in, and how to close the conversation. @param {{conversation: string}} props */
export function ConversationControls({ conversation }) {
  const [closing, setClosing] = useState(false);
  const c = findConversation(conversation);
  if (!c || c.status !== "active") return null;
  return html`<div class="controls">
    <${Composer} conversation=${c} />
    <button class="danger quiet-button" onClick=${() => setClosing(true)}>Close conversation…</button>
    ${closing && html`<${CloseDialog} conversation=${c} onClose=${() => setClosing(false)} />`}
  </div>`;
}

/** @param {{conversation: import("./store.js").Conversation}} props */
function Composer({ conversation }) {
  const human = session.value?.human ?? "human";
  const draft = "duo.draft." + conversation.id;
  const [text, setText] = useState(sessionStorage.getItem(draft) ?? "");
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const field = useRef(/** @type {HTMLTextAreaElement|null} */ (null));
  const key = useRef("");
  /** @param {string} next */
  const write = (next) => {
    key.current = "";
    setText(next);
    if (next) sessionStorage.setItem(draft, next);
    else sessionStorage.removeItem(draft);
  };
  useEffect(() => fit(field.current), [text]);
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    if (!text.trim() || busy) return;
    setBusy(true);
    setError(null);
    key.current ||= crypto.randomUUID(); // sent again after an error it is the same message
    try {
      const posted = await ask("POST", `/v1/conversations/${conversation.id}/messages`, { as: human, key: key.current, body: { content: text } });
      keepConversation(posted.conversation);
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
  const tooLong = new TextEncoder().encode(text).length > longest;
  return html`<form class="composer" onSubmit=${send}>
    <label for="compose">Write as <b>${visible(human)}</b>, a person <span class="quiet">(Ctrl Enter sends)</span></label>
    <div class="composer-row"><textarea id="compose" ref=${field} rows="1" value=${text} onInput=${(/** @type {any} */ e) => write(e.target.value)} onKeyDown=${onKeyDown} aria-invalid=${tooLong}></textarea>
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

/** @param {{conversation: import("./store.js").Conversation, onClose: () => void}} props */
function CloseDialog({ conversation, onClose }) {
  const title = visible(conversation.topic) || conversation.ref;
  return html`<${Reason} title="Close the conversation?" act="Close it" onClose=${onClose}
    text=${`“${title}” ends for all who are in it. What was said stays.`}
    onAct=${async (/** @type {string} */ reason) => {
      const posted = await ask("POST", `/v1/conversations/${conversation.id}/close`, { as: session.value?.human ?? "human", body: { type: "close", reason: reason || undefined } });
      if (posted?.conversation) keepConversation(posted.conversation);
      toast("The conversation is closed");
    }} />`;
}

const standings = /** @type {const} */ ({
  muted: { act: "Mute", title: "Mute", done: "is muted", text: "It hears the others, and says nothing any more until you let it." },
  blocked: { act: "Block", title: "Block", done: "is blocked", text: "It says nothing and calls nobody any more, and nobody reaches it, until you let it." },
  none: { act: "Let it speak again", title: "Let speak again:", done: "may speak again", text: "It may write and call as before." },
});

/** How an operator mutes or blocks an agent, or lets it speak again. @param {{agent: import("./store.js").Agent}} props */
export function StandingControls({ agent }) {
  const [wanted, setWanted] = useState(/** @type {keyof typeof standings|""} */ (""));
  const now = agent.standing ?? "none";
  const name = visible(local(agent.address));
  const dialog = wanted && standings[wanted];
  return html`<div class="standing" role="group" aria-label="What the operator allows">
    ${/** @type {(keyof typeof standings)[]} */ (["muted", "blocked", "none"]).filter((s) => s !== now).map((s) => html`<button key=${s} class=${s === "none" ? "" : "danger"} onClick=${() => setWanted(s)}>${standings[s].act}…</button>`)}
    ${dialog && html`<${Reason} title=${`${dialog.title} ${name}?`} act=${dialog.act} text=${dialog.text} onClose=${() => setWanted("")}
      onAct=${async (/** @type {string} */ reason) => {
        keepAgent(await ask("PUT", `/v1/agents/${encodeURIComponent(agent.address)}/standing`, { body: { standing: wanted, reason: reason || undefined } }));
        toast(`${name} ${dialog.done}`);
      }} />`}
  </div>`;
}

/** Asks whether to do something, and why. @param {{title: string, text: string, act: string, onAct: (reason: string) => Promise<void>, onClose: () => void}} props */
function Reason({ title, text, act, onAct, onClose }) {
  const [error, setError] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  /** @param {SubmitEvent} event */
  const onSubmit = async (event) => {
    event.preventDefault();
    const reason = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("reason") ?? "").trim();
    setBusy(true);
    setError(null);
    try {
      await onAct(reason);
      onClose();
    } catch (err) {
      setError(err);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${onSubmit}>
    <h2>${title}</h2><p>${text}</p>
    <label>Why (the others can read it) <input name="reason" maxlength="500" autocomplete="off" autofocus /></label>
    <${Failure} error=${error} />
    <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="primary danger" type="submit" disabled=${busy}>${act}</button></div>
  </form><//>`;
}
