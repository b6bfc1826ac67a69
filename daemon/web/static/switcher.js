// @ts-check
// The quick switcher over agents, conversations and views, and the help.

import { useEffect, useMemo, useState } from "./vendor/preact.js";
import { Dialog, Peer, day, html, local, visible } from "./ui.js";
import { agentPath, conversationPath, navigate } from "./router.js";
import { conversations, loaded, session, signOut } from "./store.js";
import { setSingleKeys, singleKeys } from "./keys.js";
import { sortedAgents, stateOf } from "./lists.js";

/** @typedef {{href: string, kind: string, text: string, more: string}} Choice */

const most = 12; // choices that are shown

const views = [
  { href: "/", kind: "view", text: "Overview", more: "" },
  { href: "/talk", kind: "view", text: "Who talks to whom", more: "" },
  { href: "/hosts", kind: "view", text: "Hosts", more: "" },
  { href: "/search", kind: "view", text: "Search", more: "" },
];

/** @returns {Choice[]} */
function everything() {
  const talks = [...conversations.peek().values()].sort((a, b) => b.lastTimestamp - a.lastTimestamp);
  return [
    ...talks.map((c) => ({ href: conversationPath(c.ref), kind: "conversation", text: c.topic || c.participants.map(local).join(", "), more: `${c.ref} ${c.participants.map(local).join(", ")}` })),
    ...sortedAgents.peek().map((a) => ({ href: agentPath(local(a.address)), kind: "agent", text: local(a.address), more: `${stateOf(a).word} ${a.capabilities.join(", ")}` })),
    ...views,
  ];
}

/** How well a choice fits the words: less is better, -1 is not at all. @param {Choice} choice @param {string[]} words */
function fit(choice, words) {
  const text = choice.text.toLowerCase();
  const more = choice.more.toLowerCase();
  let sum = choice.kind === "agent" ? 0 : 1;
  for (const w of words) {
    const at = text.indexOf(w);
    if (at === 0) continue;
    if (at > 0) sum += /[\p{L}\p{N}]/u.test(text[at - 1] ?? "") ? 4 : 2;
    else if (more.includes(w)) sum += 6;
    else return -1;
  }
  return sum;
}

/** @param {{onClose: () => void}} props */
export function Switcher({ onClose }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const all = useMemo(everything, [loaded.value]); // and it stands still while one chooses
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const list = useMemo(() => {
    if (words.length === 0) return all.slice(0, most);
    return all.map((choice) => ({ choice, rank: fit(choice, words) })).filter((c) => c.rank >= 0).sort((a, b) => a.rank - b.rank).slice(0, most).map((c) => c.choice)
      .concat({ href: "/search?q=" + encodeURIComponent(text.trim()), kind: "search", text: text.trim(), more: "in all messages" });
  }, [all, text]);
  useEffect(() => setAt(0), [text]);
  /** @param {Choice|undefined} choice */
  const go = (choice) => {
    if (!choice) return;
    onClose();
    navigate(choice.href);
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setAt((at + step + list.length) % Math.max(1, list.length));
    else if (event.key === "Enter") go(list[at]);
    else return;
    event.preventDefault();
  };
  return html`<${Dialog} title="Go to" class="switcher" onClose=${onClose}>
    <input role="combobox" aria-label="Go to an agent or a conversation" aria-expanded="true" aria-controls="choices" aria-autocomplete="list" aria-activedescendant=${list.length > 0 ? "choice-" + at : undefined}
      placeholder="Agent, topic or reference" autocomplete="off" spellcheck=${false} maxlength="200" data-first value=${text} onInput=${(/** @type {any} */ e) => setText(e.target.value)} onKeyDown=${onKeyDown} />
    <ul id="choices" role="listbox" aria-label="Choices">
      ${list.map((c, i) => html`<li key=${c.href} id=${"choice-" + i} role="option" aria-selected=${i === at} onMouseMove=${() => setAt(i)} onClick=${() => go(c)}>
        <span class="choice-text"><bdi><${Peer} text=${c.text} /></bdi></span><span class="choice-more"><${Peer} text=${c.more} /></span><span class="choice-kind">${c.kind}</span></li>`)}
    </ul>
  <//>`;
}

/** @type {[string, string][]} */
const keys = [
  ["Ctrl K", "go to an agent or a conversation"],
  ["/", "search all conversations"],
  ["g c", "conversations"],
  ["g a", "agents"],
  ["g h", "hosts"],
  ["g t", "who talks to whom"],
  ["g o", "overview"],
  ["j k", "next and previous message"],
  ["f", "follow what comes"],
  [".", "copy a link to what is shown"],
  ["Esc", "close what is open"],
  ["?", "this help"],
];

/** @type {[string, string][]} */
const words = [
  ["queued", "not yet at the host that orders the conversation"],
  ["stored", "has its number and is on disk"],
  ["delivered", "is in the inbox, or a live stream has confirmed it"],
  ["seen", "the agent was shown it"],
  ["crossed", "its writer had not been shown what others wrote before it"],
];

/** @param {{onClose: () => void}} props */
export function Help({ onClose }) {
  return html`<${Dialog} title="Keys and help" class="help" onClose=${onClose}>
    <div class="dialog-head"><h2>Keys and help</h2><button class="icon" aria-label="Close the help" onClick=${onClose}>×</button></div>
    <div class="help-columns"><div><h3>Keys</h3><dl class="keys">${keys.map(([key, text]) => html`<div key=${key}><dt>${key.split(/ (?=[a-zK]$)/).map((k) => html`<kbd>${k}</kbd> `)}</dt><dd>${text}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${singleKeys.value} onChange=${(/** @type {any} */ e) => setSingleKeys(e.target.checked)} /> Single keys do something</label></div>
    <div><h3>How far a message got</h3><dl class="words">${words.map(([word, text]) => html`<div key=${word}><dt>${word}</dt><dd>${text}</dd></div>`)}</dl>
    <h3>You</h3><${You} /></div></div>
  <//>`;
}

function You() {
  const { host, role, expiresAt } = session.value ?? { host: "", role: "", expiresAt: 0 };
  const may = role === "operator" ? "You may write, close conversations, and mute or block agents." : "You watch, and change nothing.";
  return html`<p>Signed in on ${visible(host)} as ${role === "operator" ? "an operator" : "an observer"}${expiresAt ? `, until ${day(expiresAt)}` : ""}. ${may}</p>
    <p><button onClick=${() => void signOut()}>Sign out</button></p>`;
}
