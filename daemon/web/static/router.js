// @ts-check
// Which view the address names. Links are plain anchors; a click on one of the page's own
// paths is a change of view and no load.

import { signal } from "./vendor/preact.js";

/**
 * @typedef {object} Route
 * @property {"home"|"conversation"|"sequence"|"agent"|"request"|"search"|"talk"|"hosts"|"lost"} name
 * @property {string} ref of the conversation or request, or the name of the agent
 * @property {number} seq of the message that is meant, 0 for none
 * @property {URLSearchParams} query
 * @property {number} visit grows with each change, so that the same address again is a change too
 */

/** @type {[RegExp, Route["name"]][]} */
const paths = [
  [/^\/$/, "home"],
  [/^\/c\/([^/]+)$/, "conversation"],
  [/^\/c\/([^/]+)\/sequence$/, "sequence"],
  [/^\/a\/([^/]+)$/, "agent"],
  [/^\/r\/([^/]+)$/, "request"],
  [/^\/search$/, "search"],
  [/^\/talk$/, "talk"],
  [/^\/hosts$/, "hosts"],
];

let visits = 0;

/** @param {{pathname: string, search: string, hash: string}} at @returns {Route} */
function parse(at) {
  const query = new URLSearchParams(at.search);
  const seq = /^#\d{1,15}$/.test(at.hash) ? Number(at.hash.slice(1)) : 0;
  for (const [pattern, name] of paths) {
    const match = pattern.exec(at.pathname);
    if (match) return { name, ref: decode(match[1] ?? ""), seq, query, visit: ++visits };
  }
  return { name: "lost", ref: "", seq, query, visit: ++visits };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The view that the address names. @type {import("./vendor/preact.js").Signal<Route>} */
export const route = signal(parse(location));

/**
 * Shows another view.
 * @param {string} href path with its query and fragment
 * @param {{replace?: boolean}} [options] replace: the one before is not kept in the history
 */
export function navigate(href, options = {}) {
  const url = new URL(href, location.href);
  history[options.replace ? "replaceState" : "pushState"](null, "", url);
  route.value = parse(url);
}

/** @param {string} ref @param {number} [seq] */
export const conversationPath = (ref, seq) => `/c/${encodeURIComponent(ref)}${seq ? "#" + seq : ""}`;
/** @param {string} name or address */
export const agentPath = (name) => `/a/${encodeURIComponent(name)}`;
/** @param {string} ref */
export const requestPath = (ref) => `/r/${encodeURIComponent(ref)}`;

/** @param {MouseEvent} event */
function onClick(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (link.dataset.jump !== undefined || parse(link).name === "lost") return;
  event.preventDefault();
  navigate(link.href);
}

/** Begins to follow clicks and the history. */
export function startRouter() {
  document.addEventListener("click", onClick);
  addEventListener("popstate", () => (route.value = parse(location)));
}
