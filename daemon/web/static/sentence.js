// @ts-check
// What has happened in a conversation, as a sentence: joins, leaves and system lines.

import { requestPath } from "./router.js";
import { exact, html, local, Name, Peer, visible } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */

/** @param {string} address */
const who = (address) => html`<${Name} address=${address} />`;

/** @param {string[]} addresses */
function people(addresses) {
  if (addresses.length === 0) return "somebody";
  return addresses.map((a, i) => html`${i === 0 ? "" : i === addresses.length - 1 ? " and " : ", "}${who(a)}`);
}

/** @param {string|undefined} text */
const because = (text) => (text ? html`: <q><${Peer} text=${text} /></q>` : "");

/** What stands before and behind whoever is given a standing. @type {Record<string, [string, string]>} */
const standings = { muted: ["muted", ""], blocked: ["blocked", ""], none: ["lets", " do all again"] };

/** @param {Message} m */
const given = ({ status = "" }) => (Object.hasOwn(standings, status) ? standings[status] : ["changed what", " may do"]);

/** What the operator of the host may do whatever the rules of a conversation say. @param {Message} m */
const byRight = (m) => (m.operator ? " as operator" : "");

/** @param {Message} m */
const by = (m) => visible(local(m.from));

/** Those whom a line concerns. @param {Message} m */
const others = (m) => (m.participants ?? []).filter((p) => p !== m.from);

/** @param {Message} m */
const names = (m) => others(m).map((p) => visible(local(p))).join(", ") || "somebody";

/**
 * What each kind of line tells: as parts of the page, and in a few words that are text alone.
 * Package sentence has the kinds, and other words for them.
 * @type {Record<string, {told: (m: Message) => any, brief: (m: Message) => string}>}
 */
const kinds = {
  join: {
    told: (m) => html`${who(m.from)} came in${byRight(m)}${because(m.reason)}`,
    brief: (m) => `${by(m)} came in${byRight(m)}`,
  },
  leave: {
    told: (m) => html`${who(m.from)} left${because(m.reason || m.content)}`,
    brief: (m) => `${by(m)} left`,
  },
  create: {
    told: (m) => html`${who(m.from)} began ${m.mode === "live" ? "a live" : "this"} conversation${others(m).length > 0 ? html` with ${people(others(m))}` : ""}${
      m.request ? html`, after <a href=${requestPath(m.request)}>a call</a>` : ""}${m.open ? "; anybody may join" : ""}${
      m.turnLimit ? `; at most ${m.turnLimit} messages` : ""}`,
    brief: (m) => `${by(m)} began${others(m).length > 0 ? ` with ${names(m)}` : ""}`,
  },
  invite: {
    told: (m) => html`${who(m.from)} invited ${people(others(m))}`,
    brief: (m) => `${by(m)} invited ${names(m)}`,
  },
  close: {
    told: (m) => html`${who(m.from)} closed the conversation${byRight(m)}${because(m.reason)}`,
    brief: (m) => `${by(m)} closed${byRight(m)}${m.reason ? ": " + visible(m.reason) : ""}`,
  },
  standing: {
    told: (m) => html`${who(m.from)} ${given(m)[0]} ${people(others(m))}${given(m)[1]}${m.until ? `, until ${exact(m.until)}` : ""}${because(m.reason)}`,
    brief: (m) => `${by(m)} ${given(m)[0]} ${names(m)}${given(m)[1]}`,
  },
  undeliverable: {
    told: (m) => html`Something that ${who(m.from)} wrote could not be delivered${because(m.why)}`,
    brief: (m) => `not delivered: ${visible(m.why)}`,
  },
  restored: {
    told: (m) => html`The host that orders this conversation was restored from a backup${because(m.why)}`,
    brief: (m) => `restored from a backup: ${visible(m.why)}`,
  },
};

/** @param {Message} m */
function kindOf(m) {
  const name = (m.type === "system" ? m.event : m.type) ?? "";
  return Object.hasOwn(kinds, name) ? kinds[name] : null;
}

/** What a line that is no message tells, as parts of the page. @param {Message} m */
export function sentence(m) {
  if (m.error) return html`This line cannot be read: <${Peer} text=${m.error} />`;
  const kind = kindOf(m);
  return kind ? kind.told(m) : html`${who(m.from)}: <${Peer} text=${m.event || m.type} />${because(m.reason || m.why || m.content)}`;
}

/** The same in a few words, for places that hold text alone. @param {Message} m */
export function summary(m) {
  return kindOf(m)?.brief(m) ?? `${by(m)}: ${visible(m.event || m.type)}`;
}
