// @ts-check
// The keyboard: single keys, two in a row such as "g c", and with Ctrl. Single keys can be
// turned off, for those who speak to their computer.

import { signal } from "./vendor/preact.js";

const offKey = "duo.keys-off";
const together = 1200; // ms between the two keys of a pair

/** Whether single keys do something. */
export const singleKeys = signal(localStorage.getItem(offKey) === null);

/** @param {boolean} on */
export function setSingleKeys(on) {
  singleKeys.value = on;
  if (on) localStorage.removeItem(offKey);
  else localStorage.setItem(offKey, "1");
}

/** @type {Map<string, (event: KeyboardEvent) => void>[]} the newest last */
const layers = [];
let before = "";
let beforeAt = 0;

/**
 * Binds keys until the returned function is called. What was bound last goes first.
 * @param {Record<string, (event: KeyboardEvent) => void>} keys such as "j", "g c", "ctrl+k" or "escape"
 * @returns {() => void}
 */
export function onKey(keys) {
  const layer = new Map(Object.entries(keys));
  layers.push(layer);
  return () => void layers.splice(layers.indexOf(layer), 1);
}

/** @param {EventTarget|null} target */
function isField(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const control = event.ctrlKey || event.metaKey;
  const key = (control ? "ctrl+" : "") + event.key.toLowerCase();
  const single = !control && key.length === 1;
  if (single && (isField(event.target) || !singleKeys.value || document.querySelector("dialog[open]"))) return;
  const pair = before && event.timeStamp - beforeAt < together ? `${before} ${key}` : "";
  for (const wanted of pair ? [pair, key] : [key]) {
    const act = layers.findLast((layer) => layer.has(wanted))?.get(wanted);
    if (!act) continue;
    before = "";
    if (key !== "escape") event.preventDefault();
    act(event);
    return;
  }
  before = single ? key : "";
  beforeAt = event.timeStamp;
});
