// @ts-check
// What has happened in a conversation, as a sentence: joins, leaves and system lines.

import { requestPath } from "./router.js";
import { exact, html, local, Name, Peer, visible } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */

/** @param {string} address */
const who = (address) => html`<${Name} address=${address} />`;

/** @param {string[]} addresses */
function people(addresses) {
  return addresses.map((a, i) => html`${i === 0 ? "" : i === addresses.length - 1 ? " and " : ", "}${who(a)}`);
}

/** @param {string|undefined} text */
const because = (text) => (text ? html`: <q><${Peer} text=${text} /></q>` : "");

/** @type {Record<string, string>} */
const standings = { muted: "muted", blocked: "blocked", none: "lets speak again" };

/** What was given to somebody. @param {Message} m */
const given = ({ status = "" }) => (Object.hasOwn(standings, status) ? standings[status] : "changed the standing of");

/** @type {Record<string, (m: Message) => any>} */
const events = {
  create: (m) => {
    const others = (m.participants ?? []).filter((p) => p !== m.from);
    return html`${who(m.from)} began ${m.mode === "live" ? "a live" : "this"} conversation${others.length > 0 ? html` with ${people(others)}` : ""}${
      m.request ? html`, after <a href=${requestPath(m.request)}>a call</a>` : ""}${m.open ? "; anybody may join" : ""}${
      m.turnLimit ? `; at most ${m.turnLimit} messages` : ""}`;
  },
  invite: (m) => html`${who(m.from)} invited ${people(m.participants ?? [])}`,
  close: (m) => html`${who(m.from)} closed the conversation${because(m.reason)}`,
  undeliverable: (m) => html`Something that ${who(m.from)} wrote could not be delivered${because(m.why)}`,
  standing: (m) => html`${who(m.from)} ${given(m)} ${people(m.participants ?? [])}${m.until ? `, until ${exact(m.until)}` : ""}${because(m.reason)}`,
  restored: (m) => html`The host that orders this conversation was restored from a backup${because(m.why)}`,
};

/** What a line that is no message tells, as parts of the page. @param {Message} m */
export function sentence(m) {
  if (m.error) return html`This line cannot be read: <${Peer} text=${m.error} />`;
  if (m.type === "join") return html`${who(m.from)} came in${because(m.reason)}`;
  if (m.type === "leave") return html`${who(m.from)} left${because(m.reason || m.content)}`;
  const event = Object.hasOwn(events, m.event ?? "") && events[m.event ?? ""];
  return event ? event(m) : html`${who(m.from)}: <${Peer} text=${m.event || m.type} />${because(m.reason || m.why || m.content)}`;
}

/** The same in a few words, for places that hold text alone. @param {Message} m */
export function summary(m) {
  const by = visible(local(m.from));
  const names = (m.participants ?? []).filter((p) => p !== m.from).map((p) => visible(local(p))).join(", ");
  switch (m.type === "system" ? m.event : m.type) {
    case "join": return `${by} came in`;
    case "leave": return `${by} left`;
    case "create": return `${by} began${names && ` with ${names}`}`;
    case "invite": return `${by} invited ${names}`;
    case "close": return `${by} closed${m.reason ? ": " + visible(m.reason) : ""}`;
    case "standing": return `${by} ${given(m)} ${names}`;
    default: return `${by}: ${visible(m.event || m.type)}`;
  }
}
