// @ts-check
// Two or more ways to look at the same thing, after the tabs pattern of WAI-ARIA: the
// arrows go from tab to tab, and the panel is what the chosen one shows.

import { html } from "./ui.js";

/**
 * @param {object} props
 * @param {string} props.label
 * @param {string} props.chosen the id of a tab
 * @param {(id: string) => void} props.onChoose
 * @param {{id: string, word: string}[]} props.tabs
 * @param {any} props.children what the chosen one shows
 */
export function Tabs({ label, chosen, onChoose, tabs, children }) {
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = tabs.findIndex((t) => t.id === chosen);
    const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : way ? (at + way + tabs.length) % tabs.length : -1;
    if (to < 0) return;
    event.preventDefault();
    onChoose(tabs[to].id);
    document.getElementById("tab-" + tabs[to].id)?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${onKeyDown}>
      ${tabs.map(({ id, word }) => html`<button type="button" role="tab" key=${id} id=${"tab-" + id} aria-selected=${id === chosen ? "true" : "false"}
        aria-controls="tab-panel" tabindex=${id === chosen ? 0 : -1} onClick=${() => onChoose(id)}>${word}</button>`)}
    </div>
    <div class="tab-panel" id="tab-panel" role="tabpanel" aria-labelledby=${"tab-" + chosen} tabindex="0">${children}</div>`;
}
