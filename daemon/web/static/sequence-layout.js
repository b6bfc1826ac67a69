// @ts-check
// Where the lines of a conversation stand in a diagram. Nothing here draws.

import { span } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */
/** @typedef {{from: string, to: string[], timestamp: number, words: string, ref: string}} Signal of a call: how far it came, and when */
/** @typedef {{agent: string, x: number, from: number, to: number}} Lane */
/** @typedef {{key: string, m?: Message, signal?: Signal, agent: string, names: string[], at: number, y: number, from: number, to: number[], room: number, textAt: number}} Row */
/** @typedef {{y: number, words: string}} Gap */
/** @typedef {{lane: number, left: number}} Measure width of a lane, and where the lanes begin */
/** @typedef {Measure & {lanes: Lane[], rows: Row[], gaps: Gap[], width: number, height: number}} Plan */

export const headHeight = 40;
const rowHeight = 30;
const told = 60000; // ms of silence that are worth a word
const perDecade = 14; // pixels for each ten times as long a pause

/**
 * The height of a pause: its logarithm, so that an hour is longer than a minute and fits.
 * @param {number} ms
 */
const pause = (ms) => Math.round(perDecade * Math.log10(1 + ms / 1000));

/**
 * What came of a call, in order: that it rang, and what each one said to it.
 * @param {import("./store.js").Request|null} call
 * @returns {Signal[]}
 */
function signalsOf(call) {
  if (!call) return [];
  const answers = call.callees.filter((c) => c.state !== "ringing").sort((a, b) => a.at - b.at);
  return [
    { from: call.from, to: call.to, timestamp: call.createdAt, words: "calls", ref: call.ref },
    ...answers.map((c) => ({ from: c.agent, to: [call.from], timestamp: c.at, words: `${c.state} after ${span(c.at - call.createdAt)}`, ref: call.ref })),
  ];
}

/**
 * Brings a page of a conversation into lanes and rows.
 * @param {import("./logwindow.js").Page} page
 * @param {import("./store.js").Request|null} call that it came of
 * @param {Measure} measure
 * @returns {Plan}
 */
export function arrange({ messages, conversation }, call, measure) {
  const signals = signalsOf(call);
  const agents = [...new Set([...signals.map((s) => s.from), ...messages.flatMap((m) => [m.from, ...(m.participants ?? [])]), ...conversation.participants])];
  const x = new Map(agents.map((agent, i) => [agent, measure.left + measure.lane * (i + 0.5)]));
  const rows = [
    ...signals.map((signal, i) => row({ key: "call" + i, signal, agent: signal.from, names: signal.to, at: signal.timestamp }, x)),
    ...messages.map((m) => row({ key: String(m.seq), m, agent: m.from, names: recipients(m), at: m.timestamp }, x)),
  ];
  const gaps = stack(rows);
  const height = (rows.at(-1)?.y ?? 0) + rowHeight;
  const stays = staysOf(rows);
  const lanes = agents.map((agent) => ({ agent, x: x.get(agent) ?? 0, from: stays.get(agent)?.from ?? 0, to: stays.get(agent)?.to ?? height }));
  return { ...measure, lanes, rows, gaps, width: measure.left + measure.lane * agents.length + 8, height };
}

/** Who was written to. @param {Message} m */
function recipients(m) {
  if (m.type !== "message") return [];
  return m.recipients?.length ? m.recipients.map((r) => r.agent) : [m.to ?? []].flat();
}

/**
 * @param {Pick<Row, "key"|"m"|"signal"|"agent"|"names"|"at">} what
 * @param {Map<string, number>} x of the lanes
 * @returns {Row}
 */
function row(what, x) {
  const from = x.get(what.agent) ?? 0;
  const to = what.names.flatMap((name) => x.get(name) ?? []).filter((at) => at !== from);
  const left = Math.min(from, ...to), right = Math.max(from, ...to);
  const [begin, end] = right - from >= from - left ? [from, right] : [left, from]; // the text stands over the longer side
  return { ...what, y: 0, from, to, room: end - begin - 24, textAt: (begin + end) / 2 };
}

/** Gives each row its height, and tells of the long pauses between them. @param {Row[]} rows */
function stack(rows) {
  /** @type {Gap[]} */
  const gaps = [];
  let y = 0, before = /** @type {Row|undefined} */ (undefined);
  for (const r of rows) {
    const silence = before && before.at > 0 && r.at > 0 ? Math.max(0, r.at - before.at) : 0; // a line of another host may have no time
    const height = rowHeight + pause(silence) + (silence >= told ? 8 : 0);
    if (silence >= told) gaps.push({ y: Math.round(y + height / 2), words: span(silence) });
    y += height;
    r.y = y;
    before = r;
  }
  return gaps;
}

/** From where to where agents are in the conversation, of those that come or go. @param {Row[]} rows */
function staysOf(rows) {
  /** @type {Map<string, {from?: number, to?: number}>} */
  const stays = new Map();
  for (const { m, y } of rows) {
    if (m?.type === "join") stays.set(m.from, { from: y });
    if (m?.event === "invite") for (const p of m.participants ?? []) stays.set(p, { from: y });
    if (m?.type === "leave") stays.set(m.from, { ...stays.get(m.from), to: y });
  }
  return stays;
}
