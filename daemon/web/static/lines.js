// @ts-check
// The messages of a window, in a box that scrolls: it loads more at its ends without moving
// what is being read, follows the end while it is there, and can be walked by keys.

import { batch, useEffect, useLayoutEffect, useRef } from "./vendor/preact.js";
import { Article } from "./article.js";
import { onKey } from "./keys.js";
import { navigate, conversationPath } from "./router.js";
import { copy, count, day, html } from "./ui.js";

/** @typedef {import("./logwindow.js").Message} Message */

const near = 24; // pixels from the end that count as the end
const ahead = "600px 0px"; // how far from an end more is loaded
const together = 10 * 60 * 1000; // ms within which messages of one sender stand together

/**
 * @param {object} props
 * @param {import("./logwindow.js").LogWindow} props.log
 * @param {string} props.conversation its reference
 * @param {{value: number}} props.current the seq of the message that is meant, 0 for none
 * @param {{value: {seq: number}|null}} props.wanted a message to bring into sight, once
 * @param {{value: import("./article.js").Progress}} props.progress
 * @param {(seqs: number[]) => void} [props.onSight] told which lines come into sight
 */
export function Lines({ log, conversation, current, wanted, progress, onSight }) {
  const box = useRef(/** @type {HTMLElement|null} */ (null));
  const { messages } = log.span.value;
  const following = log.following.value;
  const target = wanted.value;
  const drawn = useRef(messages);
  const pin = drawn.current === messages || target || following ? null : pinned(box.current); // where things stand before this change

  useLayoutEffect(() => {
    const scroller = /** @type {HTMLElement} */ (box.current);
    const article = target && find(scroller, target.seq);
    if (article) {
      wanted.value = null;
      article.scrollIntoView({ block: "center" });
      article.focus({ preventScroll: true });
    } else if (following) toEnd(scroller);
    else hold(scroller, pin);
    drawn.current = messages;
  }, [messages, target]);

  useLayoutEffect(() => {
    if (following && box.current) toEnd(box.current);
  }, [following]);

  useEffect(() => watchEnds(/** @type {HTMLElement} */ (box.current), log), [messages]);
  useEffect(() => onSight && watchSight(/** @type {HTMLElement} */ (box.current), onSight), [messages, onSight === undefined]);
  useEffect(() => watchSize(/** @type {HTMLElement} */ (box.current), log), []);
  useEffect(() => onKey({
    ".": () => copyLink(conversation, current.value),
    j: () => void step(/** @type {HTMLElement} */ (box.current), log, current, 1),
    k: () => void step(/** @type {HTMLElement} */ (box.current), log, current, -1),
    f: () => void follow(log),
  }), []);

  const was = useRef(0); // where it was scrolled to
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = /** @type {HTMLElement} */ (box.current);
    const isEnd = scrollHeight - scrollTop - clientHeight < near;
    if (isEnd && log.atEnd) batch(() => [log.following.value, log.unseen.value] = [true, 0]);
    else if (!isEnd && scrollTop < was.current) log.following.value = false; // growing is no scrolling
    was.current = scrollTop;
  };
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const article = event.target instanceof HTMLElement && event.target.matches("article") ? event.target : null;
    if (!article || event.key !== "Enter" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    navigate(conversationPath(conversation, current.value), { replace: true });
    copyLink(conversation, current.value);
  };
  /** @param {FocusEvent} event */
  const onFocus = (event) => {
    const article = event.target instanceof Element ? event.target.closest("article") : null;
    if (article) current.value = Number(article.dataset.seq);
  };

  return html`<div class="lines" role="log" aria-live="off" aria-label="Messages" tabindex="0" ref=${box}
      onScroll=${onScroll} onKeyDown=${onKeyDown} onFocusIn=${onFocus}>
    <div class="lines-inner">
      <p class="edge" data-end="older">${log.atBegin ? "The conversation begins here." : `${count(log.begin - 1, "earlier line")}`}</p>
      <${Rows} messages=${messages} conversation=${conversation} current=${current} progress=${progress} />
      <p class="edge" data-end="newer">${log.atEnd ? "" : `${count(log.span.value.last - log.end, "later line")}`}</p>
    </div>
  </div>`;
}

/** @param {string} conversation its reference @param {number} seq 0 for the conversation as such */
function copyLink(conversation, seq) {
  void copy(new URL(conversationPath(conversation, seq), location.href).href, seq ? `Link to #${seq}` : "Link");
}

/** @param {{messages: Message[], conversation: string, current: {value: number}, progress: {value: import("./article.js").Progress}}} props */
function Rows({ messages, conversation, current, progress }) {
  const bySeq = new Map(messages.flatMap((m) => /** @type {[number|string, Message][]} */ ([[m.seq, m], [m.id, m]])));
  let before = /** @type {Message|undefined} */ (undefined);
  return messages.flatMap((m) => {
    const isNewDay = before === undefined || day(before.timestamp) !== day(m.timestamp);
    const first = isNewDay || before?.type !== "message" || before.from !== m.from || m.timestamp - before.timestamp > together;
    before = m;
    return [
      isNewDay && html`<p class="day" key=${"day" + m.seq}><span>${day(m.timestamp)}</span></p>`,
      html`<${Article} key=${m.seq} m=${m} conversation=${conversation} first=${first} current=${current.value === m.seq}
        quoted=${m.replyTo === undefined ? undefined : bySeq.get(m.replyTo)} progress=${progress} />`,
    ];
  });
}

/** @param {HTMLElement} scroller @param {number} seq @returns {HTMLElement|null} */
const find = (scroller, seq) => scroller.querySelector(`article[data-seq="${seq}"]`);

/** @param {HTMLElement} scroller */
function toEnd(scroller) {
  scroller.scrollTop = scroller.scrollHeight;
}

/**
 * The first article in sight and where it stands.
 * @param {HTMLElement|null} scroller
 * @returns {{seq: number, top: number}|null}
 */
function pinned(scroller) {
  if (!scroller) return null;
  const { left, top, width } = scroller.getBoundingClientRect();
  for (let y = top + 4; y < top + 200; y += 24) {
    const article = document.elementFromPoint(left + width / 2, y)?.closest("article");
    if (article instanceof HTMLElement && scroller.contains(article)) return { seq: Number(article.dataset.seq), top: article.getBoundingClientRect().top };
  }
  return null;
}

/** @param {HTMLElement} scroller @param {HTMLElement|null} article */
function isInSight(scroller, article) {
  if (!article) return false;
  const a = article.getBoundingClientRect(), box = scroller.getBoundingClientRect();
  return a.bottom > box.top && a.top < box.bottom;
}

/** Puts an article back to where it stood. @param {HTMLElement} scroller @param {{seq: number, top: number}|null} pin */
function hold(scroller, pin) {
  const article = pin && find(scroller, pin.seq);
  if (pin && article) scroller.scrollTop += article.getBoundingClientRect().top - pin.top;
}

/**
 * Loads more when an end of the window comes near.
 * @param {HTMLElement} scroller
 * @param {import("./logwindow.js").LogWindow} log
 */
function watchEnds(scroller, log) {
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      void (/** @type {HTMLElement} */ (entry.target).dataset.end === "older" ? log.older() : log.newer());
    }
  }, { root: scroller, rootMargin: ahead });
  for (const edge of scroller.querySelectorAll(".edge")) observer.observe(edge);
  return () => observer.disconnect();
}

/**
 * Tells which lines come into sight: half of one, or as much of it as fills half of the box.
 * A browser looks at no page that is not shown.
 * @param {HTMLElement} scroller
 * @param {(seqs: number[]) => void} tell
 */
function watchSight(scroller, tell) {
  const observer = new IntersectionObserver((entries) => {
    const seqs = entries.filter((e) => e.intersectionRatio >= 0.5 || e.intersectionRect.height >= (e.rootBounds?.height ?? Infinity) / 2)
      .map((e) => Number(/** @type {HTMLElement} */ (e.target).dataset.seq));
    if (seqs.length > 0) tell(seqs);
  }, { root: scroller, threshold: [0.05, 0.1, 0.25, 0.5] });
  for (const article of scroller.querySelectorAll("article")) observer.observe(article);
  return () => observer.disconnect();
}

/**
 * Stays at the end while it is followed, whatever changes its height.
 * @param {HTMLElement} scroller
 * @param {import("./logwindow.js").LogWindow} log
 */
function watchSize(scroller, log) {
  const observer = new ResizeObserver(() => {
    if (log.following.value) toEnd(scroller);
  });
  observer.observe(scroller);
  if (scroller.firstElementChild) observer.observe(scroller.firstElementChild);
  return () => observer.disconnect();
}

/**
 * Goes to the next message or the one before.
 * @param {HTMLElement} scroller
 * @param {import("./logwindow.js").LogWindow} log
 * @param {{value: number}} current
 * @param {1|-1} way
 */
async function step(scroller, log, current, way) {
  const seq = isInSight(scroller, find(scroller, current.value)) ? current.value + way
    : way < 0 && log.following.value ? log.end
    : pinned(scroller)?.seq ?? log.begin;
  if (seq < log.begin) await log.older();
  if (seq > log.end) await log.newer();
  if (seq >= log.begin && seq <= log.end) current.value = seq; // for a key that comes before the frame
  await new Promise(requestAnimationFrame);
  const article = find(scroller, seq);
  article?.focus({ preventScroll: true });
  article?.scrollIntoView({ block: "nearest" });
}

/** Follows the end, or stops doing so. @param {import("./logwindow.js").LogWindow} log */
export async function follow(log) {
  if (log.following.value) {
    log.following.value = false;
    return;
  }
  if (!log.atEnd) await log.open();
  log.unseen.value = 0;
  log.following.value = true;
}
