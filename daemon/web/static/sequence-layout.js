// @ts-check
// Where the lines of a conversation stand in a diagram. Nothing here draws.

import { span } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */
/** @typedef {{agent: string, x: number, from: number, to: number}} Lane */
/** @typedef {{m: Message, y: number, from: number, to: number[], names: string[], toAll: boolean, room: number, textAt: number}} Row */
/** @typedef {{y: number, words: string}} Gap */
/** @typedef {{lanes: Lane[], rows: Row[], gaps: Gap[], width: number, height: number}} Plan */

export const laneWidth = 150;
export const headHeight = 40;
export const leftEdge = 108; // the times and seqs stand left of it
const rowHeight = 30;
const told = 60000; // ms of silence that are worth a word
const perDecade = 14; // pixels for each ten times as long a pause

/**
 * The height of a pause: its logarithm, so that an hour is longer than a minute and fits.
 * @param {number} ms
 */
export function pause(ms) {
  return Math.round(perDecade * Math.log10(1 + ms / 1000));
}

/**
 * Who was written to: as the daemon says, else whom the line names.
 * @param {Message} m
 * @returns {string[]}
 */
function recipients(m) {
  if (m.recipients?.length) return m.recipients.map((r) => r.agent);
  return [m.to ?? []].flat();
}

/**
 * Brings a page of a conversation into lanes and rows.
 * @param {import("./logwindow.js").Page} page
 * @returns {Plan}
 */
export function arrange({ messages, conversation }) {
  const agents = [...new Set([...messages.flatMap((m) => [m.from, ...(m.participants ?? [])]), ...conversation.participants])];
  const x = new Map(agents.map((agent, i) => [agent, leftEdge + laneWidth * (i + 0.5)]));
  const at = (/** @type {string} */ agent) => x.get(agent) ?? leftEdge;
  /** @type {Gap[]} */
  const gaps = [];
  /** @type {Map<string, {from: number, to: number}>} */
  const stays = new Map();
  let y = rowHeight, before = /** @type {Message|undefined} */ (undefined);
  const rows = messages.map((m) => {
    const silence = before ? m.timestamp - before.timestamp : 0;
    if (before) y += rowHeight + pause(silence);
    if (silence >= told) {
      y += 8;
      gaps.push({ y: Math.round(y - (rowHeight + pause(silence)) / 2), words: span(silence) });
    }
    before = m;
    if (m.type === "join") stays.set(m.from, { from: y, to: Infinity });
    for (const p of m.event === "invite" ? m.participants ?? [] : []) stays.set(p, { from: y, to: Infinity });
    if (m.type === "leave") stays.set(m.from, { from: stays.get(m.from)?.from ?? 0, to: y });
    return row(m, y, at);
  });
  const height = y + rowHeight;
  const lanes = agents.map((agent) => ({ agent, x: at(agent), from: stays.get(agent)?.from ?? 0, to: Math.min(height, stays.get(agent)?.to ?? height) }));
  return { lanes, rows, gaps, width: leftEdge + laneWidth * agents.length + 8, height };
}

/** @param {Message} m @param {number} y @param {(agent: string) => number} at @returns {Row} */
function row(m, y, at) {
  const names = m.type === "message" ? recipients(m) : [];
  const from = at(m.from), to = names.map(at).filter((x) => x !== from);
  // The text stands over the longer side of the arrows.
  const left = Math.min(from, ...to), right = Math.max(from, ...to);
  const [begin, end] = right - from >= from - left ? [from, right] : [left, from];
  return { m, y, from, to, names, toAll: m.to === undefined && names.length > 1, room: end - begin - 24, textAt: (begin + end) / 2 };
}
