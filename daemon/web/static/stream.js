// @ts-check
// The live connection: opens the WebSocket, asks whether the daemon is there, and comes
// again with growing gaps when it breaks. What it says about itself is what it knows.

const pingEvery = 5000; // ms between questions whether the daemon is there
const patience = 16000; // ms of silence after which the connection counts as broken
const openWithin = 6000; // ms for a connection to begin
const firstGap = 400; // ms before coming again, doubled each time
const maxGap = 5000; // ms
const flushEvery = 100; // ms that lines are gathered in a flood; the first one is told at once
const closeRevoked = 4001;

/**
 * @typedef {object} Needs
 * @property {() => string} token
 * @property {() => object} hello the first frame
 * @property {(link: import("./store.js").Link) => void} state told whenever it changes
 * @property {() => void} heard told of each frame
 * @property {() => void} ready told when the stream has begun
 * @property {(lines: import("./store.js").Envelope[]) => void} lines
 * @property {() => Promise<boolean>} check whether the session still holds; true where nobody says
 * @property {() => void} revoked
 */

/**
 * Makes a stream; start opens it.
 * @param {Needs} needs
 */
export function openStream(needs) {
  /** @type {WebSocket|null} */
  let socket = null;
  let running = false;
  let checking = false;
  let failures = 0;
  let heard = 0;
  let timer = 0;
  let pinger = 0;
  /** @type {import("./store.js").Envelope[]} */
  let gathered = [];
  let flushing = 0;
  let flushed = 0;

  /** @param {import("./store.js").Link["state"]} state @param {string} [why] @param {number} [retryAt] */
  function tell(state, why = "", retryAt = 0) {
    needs.state({ state, since: Date.now(), why, retryAt });
  }

  function connect() {
    clearTimeout(timer);
    tell("connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const ws = new WebSocket(`${scheme}://${location.host}/v1/stream`, ["duo", "bearer." + needs.token()]);
    socket = ws;
    heard = Date.now();
    ws.onopen = () => ws.send(JSON.stringify(needs.hello()));
    ws.onmessage = (event) => {
      if (socket !== ws) return;
      heard = Date.now();
      needs.heard();
      take(JSON.parse(event.data));
    };
    ws.onclose = (event) => {
      if (socket === ws) void lost(event.code, event.reason);
    };
    clearInterval(pinger);
    pinger = setInterval(() => probe(ws), pingEvery);
  }

  /** @param {WebSocket} ws */
  function probe(ws) {
    if (Date.now() - heard > (ws.readyState === WebSocket.CONNECTING ? openWithin : patience)) {
      ws.onclose = null; // a close to a peer that is gone takes its time
      ws.close();
      void lost(0, "it has said nothing for too long");
    } else if (ws.readyState === WebSocket.OPEN) {
      ws.send('{"op":"ping"}');
    }
  }

  /** @param {any} frame */
  function take(frame) {
    if (frame.op === "ready") {
      failures = 0;
      tell("live");
      needs.ready();
    } else if (!frame.op) {
      gathered.push(frame);
      if (!flushing) flushing = setTimeout(flush, Math.max(0, flushEvery - (Date.now() - flushed)));
    }
  }

  function flush() {
    const lines = gathered;
    gathered = [];
    flushing = 0;
    flushed = Date.now();
    if (lines.length > 0) needs.lines(lines);
  }

  /** @param {number} code of the close, 0 for none @param {string} reason */
  async function lost(code, reason) {
    socket = null;
    clearInterval(pinger);
    if (!running) return;
    if (code === closeRevoked) {
      needs.revoked();
      return;
    }
    const gap = Math.min(maxGap, firstGap * 2 ** failures++) * (0.5 + Math.random() / 2);
    tell("waiting", code === 1012 ? "the daemon stops or restarts" : reason || "the daemon does not answer", Date.now() + gap);
    clearTimeout(timer);
    timer = setTimeout(retry, gap);
  }

  async function retry() {
    if (!running || socket || checking) return;
    clearTimeout(timer);
    tell("connecting", "", 0);
    checking = true;
    const holds = await needs.check(); // a browser does not say why it was refused
    checking = false;
    if (running && !socket && holds) connect();
  }

  addEventListener("online", () => void retry());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !socket) void retry();
  });

  return {
    start() {
      if (running) return;
      running = true;
      failures = 0;
      connect();
    },
    stop() {
      running = false;
      clearTimeout(timer);
      clearInterval(pinger);
      socket?.close();
      socket = null;
      tell("off");
    },
    retry: () => void retry(),
  };
}
