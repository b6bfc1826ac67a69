// @ts-check
// What the page knows: the session, the state of its connection, and what the daemon has
// told of agents, conversations, calls and hosts. Signals hold it; nothing else talks to
// the daemon.
//
// The lists are fetched when a stream is ready, and kept by what the stream says. What a
// line does not tell in full, such as how much an agent has not read, is fetched again a
// little later, together with whatever else has grown stale by then.

import { batch, computed, signal } from "./vendor/preact.js";
import { openStream } from "./stream.js";

/** @typedef {{role: "observer"|"operator", host: string, hostId: string, version: string, human?: string, expiresAt?: number}} Session */
/** @typedef {{id: string, name: string, address: string, host: string, link?: string, capabilities: string[], description?: string, platform?: string, accepts: string, status: string, note?: string, since?: number, lastSeen?: number, open: number, unread: number, listening: boolean, wake?: string, unregistered?: boolean, human?: boolean, standing?: string, terms?: {by: string, at: number, until?: number, reason?: string}}} Agent */
/** @typedef {{seq: number, from: string, type: string, event?: string, preview: string, timestamp: number}} Last */
/** @typedef {{id: string, ref: string, topic: string, mode: string, open: boolean, turnLimit?: number, turns: number, creator: string, participants: string[], left?: string[], status: string, reason?: string, lastSeq: number, lastTimestamp: number, createdAt: number, request?: string, last?: Last}} Conversation */
/** @typedef {{agent: string, state: string, reason?: string, at: number}} Callee */
/** @typedef {{id: string, ref: string, from: string, to: string[], topic: string, mode?: string, turnLimit?: number, content?: string, state: string, createdAt: number, ringUntil?: number, callees: Callee[], conversation?: string, conversationRef?: string, over?: boolean, next?: string}} Request */
/** @typedef {{name: string, id: string, key: string, address?: string, via?: string, relay?: boolean, carry?: boolean, state: string, since?: number, problem?: string, problemAt?: number, dialAt?: number, dialled?: boolean, delay?: number, waiting: number, resting?: {conversation: string, seq?: number, fork?: boolean, why: string}[]}} Peer */
/** @typedef {Record<string, any> & {type: string, from?: string, conversation?: string, seq?: number, timestamp?: number, content?: string}} Envelope */
/** @typedef {{state: "off"|"connecting"|"live"|"waiting", since: number, why: string, retryAt: number}} Link */

const tokenKey = "duo.token";
const seenKey = "duo.seen";
const answerWithin = 30000; // ms
const pageSize = 500; // items in one answer, the most that the daemon gives
const mostPages = 10; // of one list: of conversations in which nobody has spoken for long, hardly any is active
const maxAgents = 5000;
const firstConversations = 100; // of those that are over
const maxActive = 2000;
const maxSeen = 3000; // conversations of which the page remembers what was looked at
const staleAfter = 1500; // ms until what a line has made stale is fetched
const maxStale = 16; // agents that are fetched one by one; the others wait for the next time that all are
const peersEvery = 5000; // ms
const checkWithin = 8000; // ms that an answer may take when a broken connection is made anew
const agentsEvery = 15000; // ms: nothing tells that somebody begins to listen, or how it is woken
const typingFor = 8000; // ms that somebody is held to be typing

/** The session: undefined until it is known, null when there is none. @type {import("./vendor/preact.js").Signal<Session|null|undefined>} */
export const session = signal(undefined);
/** Why there is no session, for a person; empty where there never was one. */
export const signedOut = signal("");
/** What a person who is signed in has to be told; empty for nothing. */
export const notice = signal("");
/** How the connection is. */
export const link = signal(/** @type {Link} */ ({ state: "off", since: Date.now(), why: "", retryAt: 0 }));
/** When the daemon was heard last, and when it last told something new; Unix milliseconds, 0 for never. */
export const heardAt = signal(0);
export const eventAt = signal(0);
/** By address. @type {import("./vendor/preact.js").Signal<Map<string, Agent>>} */
export const agents = signal(new Map());
/** By id. @type {import("./vendor/preact.js").Signal<Map<string, Conversation>>} */
export const conversations = signal(new Map());
/** Whether the lists were fetched since the page was opened. */
export const loaded = signal(false);
/** Whether the daemon may have conversations that are over which the page has not fetched. */
export const olderLeft = signal(false);
/** By id: the open ones, and those that ended within the last minute. @type {import("./vendor/preact.js").Signal<Map<string, Request>>} */
export const requests = signal(new Map());
/** @type {import("./vendor/preact.js").Signal<Peer[]>} */
export const peers = signal([]);
/** By conversation, who is typing until when. @type {import("./vendor/preact.js").Signal<Map<string, Map<string, number>>>} */
export const typing = signal(new Map());
/** By conversation, the seq up to which somebody has looked at it here. @type {import("./vendor/preact.js").Signal<Map<string, number>>} */
export const seen = signal(readSeen());

const humans = computed(() => [...agents.value.values()].filter((a) => a.human).map((a) => a.address).join("\n"));

/** Whether an address is that of a person. @param {string} address */
export const isHuman = (address) => humans.value.split("\n").includes(address);

/** Whether the reader may do more than watch. */
export const isOperator = computed(() => session.value?.role === "operator");

/** An answer that is an error: RFC 9457, with the codes of docs/api.md. */
export class Problem extends Error {
  /** @param {number} status @param {Record<string, any>} body */
  constructor(status, body) {
    super(body.detail || body.title || `the daemon answered ${status}`);
    this.status = status;
    this.code = /** @type {string} */ (body.code || "");
    this.next = /** @type {string} */ (body.next || "");
  }
}

/**
 * Asks the daemon. An answer that is no success is thrown as a Problem, and a daemon that
 * is not there as a Problem with the status 0.
 * @param {string} method
 * @param {string} path with its query, below the origin
 * @param {{body?: unknown, as?: string, key?: string, signal?: AbortSignal}} [options] as: the agent that the request speaks for; key: the same one again is the same message
 * @returns {Promise<any>}
 */
export async function ask(method, path, options = {}) {
  const response = await fetchRaw(method, path, { ...options, signal: options.signal ?? AbortSignal.timeout(answerWithin) });
  return response.status === 204 ? null : response.json();
}

/**
 * Like ask, for an answer that is not JSON.
 * @param {string} method @param {string} path @param {{body?: unknown, as?: string, key?: string, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>}
 */
export async function fetchRaw(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  const token = localStorage.getItem(tokenKey);
  if (token) headers.Authorization = "Bearer " + token;
  if (options.as) headers["Duo-Agent"] = options.as;
  if (options.key) headers["Idempotency-Key"] = options.key;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal: options.signal, cache: "no-store", credentials: "omit", redirect: "error",
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
    });
  } catch (err) {
    if (options.signal?.aborted && options.signal.reason?.name !== "TimeoutError") throw err;
    throw new Problem(0, { code: "away", detail: "the daemon does not answer", next: "duo up" });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (problem.code === "unauthorized" && token && token === localStorage.getItem(tokenKey)) forget("The session was revoked, or has expired.");
  throw problem;
}

/** Begins: signs in where the address is a login link, and connects. */
export async function start() {
  addEventListener("storage", (event) => {
    if (event.key === tokenKey) void resume(); // another tab has signed in or out
    if (event.key === seenKey) seen.value = readSeen();
  });
  addEventListener("hashchange", () => {
    if (loginCode() !== null) void enter(); // a link that was opened where the page is already
  });
  await enter();
}

const loginCode = () => new URLSearchParams(location.hash.slice(1)).get("login");

async function enter() {
  const code = loginCode();
  let refused = "";
  if (code !== null) {
    history.replaceState(history.state, "", location.pathname + location.search); // a code stays in no history
    refused = await redeem(code);
  }
  await resume(refused);
}

/** @param {string} code @returns {Promise<string>} why it was refused, empty where it was not */
async function redeem(code) {
  try {
    const { token } = await ask("POST", "/v1/session", { body: { code } });
    localStorage.setItem(tokenKey, token);
    return "";
  } catch (err) {
    const problem = /** @type {Problem} */ (err);
    if (problem.status === 0) return "The daemon did not answer. Open a new login link when it is back.";
    return problem.message.charAt(0).toUpperCase() + problem.message.slice(1) + ".";
  }
}

/** Connects with the token that is kept, if there is one. @param {string} [refused] why the login link did not work */
async function resume(refused = "") {
  stream.stop();
  if (!localStorage.getItem(tokenKey)) {
    forget(refused);
    return;
  }
  try {
    session.value = await ask("GET", "/v1/session");
    signedOut.value = "";
    notice.value = refused; // an older session holds all the same
  } catch (err) {
    if (/** @type {Problem} */ (err).code === "unauthorized") {
      if (refused) signedOut.value = refused;
      return;
    }
  }
  stream.start();
}

/** Ends the session, here and at the daemon. */
export async function signOut() {
  await ask("DELETE", "/v1/session").catch(() => {}); // a daemon that is away forgets it when it expires
  forget("You have signed out.");
}

/** @param {string} why */
function forget(why) {
  localStorage.removeItem(tokenKey);
  stream.stop();
  batch(() => {
    session.value = null;
    signedOut.value = why;
    loaded.value = false;
    agents.value = new Map();
    conversations.value = new Map();
    requests.value = new Map();
    peers.value = [];
    typing.value = new Map();
  });
}

/** Tries to connect now, where it waits to do so. */
export function retryNow() {
  stream.retry();
}

// ---- the stream -------------------------------------------------------------------

/** @type {Set<(lines: Envelope[]) => void>} */
const listeners = new Set();
/** @type {Set<() => void>} */
const resumers = new Set();

/**
 * Calls back with whatever the stream carries, in its order: lines of logs, and notices of
 * the types typing, presence, receipt, call, accept, reject and cancel.
 * @param {(lines: Envelope[]) => void} listener
 * @returns {() => void} ends it
 */
export function listen(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/**
 * Calls back whenever the stream is there again after a break, in which lines may have been
 * missed.
 * @param {() => void} listener @returns {() => void} ends it
 */
export function onResume(listener) {
  resumers.add(listener);
  return () => void resumers.delete(listener);
}

const stream = openStream({
  token: () => localStorage.getItem(tokenKey) ?? "",
  hello: () => ({ op: "subscribe", typing: true, presence: true, receipts: true }),
  state: (next) => (link.value = next),
  heard: () => (heardAt.value = Date.now()),
  ready: () => {
    if (loaded.value) for (const listener of resumers) listener();
    void refresh();
  },
  lines: take,
  check: async () => {
    try {
      session.value = await ask("GET", "/v1/session", { signal: AbortSignal.timeout(checkWithin) });
      return true;
    } catch (err) {
      return /** @type {Problem} */ (err).code !== "unauthorized";
    }
  },
  revoked: () => forget("The session was revoked."),
});

/**
 * A map that is copied when it is first written to, so that a flood of lines costs one copy.
 * @template K, V @param {import("./vendor/preact.js").Signal<Map<K, V>>} source
 */
function draft(source) {
  /** @type {Map<K, V>|undefined} */
  let copy;
  return {
    read: () => copy ?? source.peek(),
    write: () => (copy ??= new Map(source.peek())),
    commit: () => void (copy && (source.value = copy)),
  };
}

/** @param {Envelope[]} lines */
function take(lines) {
  const drafts = { agents: draft(agents), conversations: draft(conversations), typing: draft(typing) };
  for (const line of lines) {
    if (line.type === "presence") meet(drafts, line);
    else if (line.type === "typing") hearTyping(drafts, line);
    else if (line.type === "receipt") makeStale([line.agent]);
    else if (line.request && !line.seq) wantRequests();
    else if (line.seq && line.conversation) advance(drafts, line);
  }
  batch(() => {
    eventAt.value = Date.now();
    for (const d of Object.values(drafts)) d.commit();
  });
  for (const listener of listeners) listener(lines);
}

/** @typedef {{agents: ReturnType<typeof draft<string, Agent>>, conversations: ReturnType<typeof draft<string, Conversation>>, typing: ReturnType<typeof draft<string, Map<string, number>>>}} Drafts */

/** @param {Drafts} drafts @param {Envelope} line of presence */
function meet(drafts, line) {
  const agent = drafts.agents.read().get(line.from ?? "");
  if (!agent) return wantAgents();
  const since = line.status === agent.status ? agent.since : line.timestamp;
  drafts.agents.write().set(agent.address, { ...agent, status: line.status, note: line.content ?? "", since, lastSeen: line.timestamp ?? agent.lastSeen });
  makeStale([agent.address]); // whether it listens, and what it has open
  if (line.status === "ringing" || agent.status === "ringing") wantRequests();
}

/** @param {Drafts} drafts @param {Envelope} line */
function hearTyping(drafts, line) {
  const id = line.conversation ?? "";
  const who = new Map(drafts.typing.read().get(id));
  if (line.off) who.delete(line.from ?? "");
  else who.set(line.from ?? "", Date.now() + typingFor);
  if (who.size > 0) drafts.typing.write().set(id, who);
  else drafts.typing.write().delete(id);
}

/** Brings a conversation to a line. @param {Drafts} drafts @param {Envelope} line */
function advance(drafts, line) {
  const id = /** @type {string} */ (line.conversation);
  const seq = /** @type {number} */ (line.seq);
  const c = drafts.conversations.read().get(id);
  if (!c || line.type !== "message" || seq > c.lastSeq + 1) wantConversation(id); // it is not known how many turns are between
  if (!c || seq <= c.lastSeq) return;
  makeStale(c.participants);
  if (drafts.typing.read().get(id)?.has(line.from ?? "")) hearTyping(drafts, { type: "typing", conversation: id, from: line.from, off: true });
  drafts.conversations.write().set(id, {
    ...c, lastSeq: seq, lastTimestamp: line.timestamp ?? c.lastTimestamp, turns: c.turns + (line.type === "message" ? 1 : 0),
    last: line.type === "message" ? { seq, from: line.from ?? "", type: line.type, preview: preview(line.content), timestamp: line.timestamp ?? 0 } : c.last, // what else has happened the daemon says
  });
}

/** @param {string|undefined} text */
function preview(text) {
  return (text ?? "").trimStart().slice(0, 160).replace(/\s+/g, " ");
}

// ---- the lists --------------------------------------------------------------------

/** Fetches all lists. */
async function refresh() {
  const results = await Promise.allSettled([loadAgents(), loadConversations(), loadRequests(), loadPeers()]);
  if (results.some((r) => r.status === "fulfilled")) loaded.value = true;
}

/** Fetches a list, as far as it is worth it. @param {string} path with its query @param {string} field of the answer @param {number} most @returns {Promise<{items: any[], more: number}>} */
async function pages(path, field, most) {
  const items = [];
  let cursor = "";
  for (let n = 1; ; n++) {
    const limit = Math.min(pageSize, most - items.length);
    const page = await ask("GET", `${path}${path.includes("?") ? "&" : "?"}limit=${limit}${cursor && "&cursor=" + encodeURIComponent(cursor)}`);
    items.push(...page[field]);
    if (!page.next || items.length >= most || n >= mostPages) return { items, more: page.more ?? 0 };
    cursor = page.next;
  }
}

async function loadAgents() {
  const { items } = await pages("/v1/agents", "agents", maxAgents);
  agents.value = new Map(items.map((a) => [a.address, a]));
}

let older = firstConversations;

async function loadConversations() {
  if (conversations.value.size === 0) { // something to see at once
    const { items } = await pages("/v1/conversations", "conversations", firstConversations);
    conversations.value = new Map(items.map((c) => [c.id, c]));
  }
  const [active, damaged, closed] = await Promise.all([
    pages("/v1/conversations?status=active", "conversations", maxActive),
    pages("/v1/conversations?status=damaged", "conversations", pageSize),
    pages("/v1/conversations?status=closed", "conversations", older),
  ]);
  batch(() => {
    olderLeft.value = closed.more > 0;
    conversations.value = new Map([...active.items, ...damaged.items, ...closed.items].map((c) => [c.id, newer(c)]));
    rememberAll();
  });
}

/** What is known of a conversation where the stream was faster than an answer, else the answer. @param {Conversation} c */
function newer(c) {
  const known = conversations.peek().get(c.id);
  return known && known.lastSeq > c.lastSeq ? known : c;
}

/** Fetches more of the conversations that are over. */
export async function loadOlder() {
  older += pageSize;
  await loadConversations();
}

/** Fetches conversations that have these words in their topic or among their people. @param {string} text */
export async function findMore(text) {
  const { items } = await pages(`/v1/conversations?q=${encodeURIComponent(text)}`, "conversations", 100).catch(() => ({ items: [] }));
  batch(() => items.forEach(keepConversation));
}

async function loadRequests() {
  const { requests: list } = await ask("GET", "/v1/requests");
  requests.value = new Map(list.map((/** @type {Request} */ r) => [r.id, r]));
}

async function loadPeers() {
  const next = (await ask("GET", "/v1/peers")).peers;
  if (JSON.stringify(next) !== JSON.stringify(peers.value)) peers.value = next;
}

/** Fetches one conversation and keeps it. @param {string} ref @returns {Promise<Conversation>} */
export async function loadConversation(ref) {
  const c = await ask("GET", `/v1/conversations/${encodeURIComponent(ref)}`);
  keepConversation(c);
  return c;
}

/** Takes in a conversation that an answer has described, unless a newer one is known. @param {Conversation} c */
export function keepConversation(c) {
  const known = conversations.value.get(c.id);
  if (known && known.lastSeq > c.lastSeq) return;
  conversations.value = new Map(conversations.value).set(c.id, { ...c, last: c.last ?? (known?.lastSeq === c.lastSeq ? known.last : undefined) });
}

/** Takes in an agent that an answer has described. @param {Agent} agent */
export function keepAgent(agent) {
  agents.value = new Map(agents.value).set(agent.address, agent);
}

/** The conversation that a reference or an id names, if the page knows it. @param {string} ref @returns {Conversation|undefined} */
export function findConversation(ref) {
  const direct = conversations.value.get(ref);
  if (direct) return direct;
  const wanted = ref.toLowerCase();
  for (const c of conversations.value.values()) if (c.ref === wanted) return c;
  return undefined;
}

/** The agent that a name or an address names, if the page knows it. @param {string} name @returns {Agent|undefined} */
export function findAgent(name) {
  const wanted = name.toLowerCase();
  for (const a of agents.value.values()) {
    if (a.address.toLowerCase() === wanted || (a.name.toLowerCase() === wanted && a.host === session.value?.host)) return a;
  }
  return undefined;
}

// What has grown stale is fetched together, a little later.

/** @param {() => Promise<unknown>} fetch @param {number} wait in milliseconds @returns {() => void} */
function later(fetch, wait) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    setTimeout(() => {
      due = false;
      fetch().catch(() => {}); // the stream tells when the daemon is away
    }, wait);
  };
}

const wantAgents = later(loadAgents, staleAfter);
const wantRequests = later(loadRequests, 150);

/** @type {Set<string>} */
const staleAgents = new Set();
const fetchStale = later(async () => {
  const names = [...staleAgents];
  staleAgents.clear();
  const fresh = await Promise.all(names.slice(-maxStale).map((name) => ask("GET", `/v1/agents/${encodeURIComponent(name)}`).catch(() => null)));
  const next = new Map(agents.value);
  for (const agent of fresh) if (agent) next.set(agent.address, agent);
  agents.value = next;
}, staleAfter);

/** @param {string[]} addresses */
function makeStale(addresses) {
  for (const address of addresses) if (agents.value.has(address)) staleAgents.add(address);
  if (staleAgents.size > 0) fetchStale();
}

/** @type {Set<string>} */
const staleConversations = new Set();
const fetchConversations = later(async () => {
  const ids = [...staleConversations];
  staleConversations.clear();
  if (ids.length > 30) return loadConversations();
  const fresh = await Promise.all(ids.map((id) => loadConversation(id).catch(() => null)));
  makeStale(fresh.flatMap((c) => c?.participants ?? []));
}, 200);

/** @param {string} id */
function wantConversation(id) {
  staleConversations.add(id);
  fetchConversations();
}

setInterval(() => {
  if (link.value.state !== "live" || document.hidden) return;
  loadPeers().catch(() => {});
}, peersEvery);

setInterval(() => {
  if (link.value.state !== "live" || document.hidden) return;
  loadAgents().catch(() => {});
}, agentsEvery);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && link.value.state === "live") void refresh(); // some of it was not kept up to date
});

setInterval(() => {
  const now = Date.now();
  for (const r of requests.value.values()) {
    if (r.state === "ringing" && r.ringUntil && r.ringUntil < now) return wantRequests(); // the daemon knows the outcome
  }
}, 1000);

// ---- what was looked at -----------------------------------------------------------

/** @returns {Map<string, number>} */
function readSeen() {
  try {
    return new Map(JSON.parse(localStorage.getItem(seenKey) ?? "[]"));
  } catch {
    return new Map();
  }
}

/** Notes that a conversation was looked at, up to a line. @param {string} id @param {number} seq */
export function look(id, seq) {
  if ((seen.value.get(id) ?? 0) >= seq) return;
  const next = new Map(seen.value);
  next.delete(id); // the newest are at the end
  keepSeen(next.set(id, seq));
}

/** How many lines of a conversation came since somebody has looked at it here. @param {Conversation} c */
export function unseen(c) {
  return Math.max(0, c.lastSeq - (seen.value.get(c.id) ?? c.lastSeq));
}

// rememberAll takes what there is when the page first meets a conversation as looked at.
function rememberAll() {
  const next = new Map(seen.value);
  const isFirst = next.size === 0;
  for (const c of conversations.value.values()) if (!next.has(c.id)) next.set(c.id, isFirst || c.status !== "active" ? c.lastSeq : 0);
  if (next.size > seen.value.size) keepSeen(next);
}

/** @param {Map<string, number>} next */
function keepSeen(next) {
  for (const id of next.keys()) {
    if (next.size <= maxSeen) break;
    next.delete(id);
  }
  seen.value = next;
  localStorage.setItem(seenKey, JSON.stringify([...next]));
}
