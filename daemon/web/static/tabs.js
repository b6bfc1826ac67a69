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
 * @param {any} [props.beside] what stands at the end of the row of tabs
 */
export function Tabs({ label, chosen, onChoose, tabs, children, beside }) {
  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const way = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const at = tabs.findIndex((t) => t.id === chosen);
    const to = tabs.at(event.key === "Home" ? 0 : event.key === "End" ? -1 : way ? (at + way) % tabs.length : at);
    if (!to || to.id === chosen) return;
    event.preventDefault();
    onChoose(to.id);
    document.getElementById("tab-" + to.id)?.focus();
  };
  return html`<div class="tab-row"><div class="tabs" role="tablist" aria-label=${label} onKeyDown=${onKeyDown}>
      ${tabs.map(({ id, word }) => html`<button type="button" role="tab" key=${id} id=${"tab-" + id} aria-selected=${id === chosen ? "true" : "false"}
        aria-controls="tab-panel" tabindex=${id === chosen ? 0 : -1} onClick=${() => onChoose(id)}>${word}</button>`)}
    </div>${beside}</div>
    <div class="tab-panel" id="tab-panel" role="tabpanel" aria-labelledby=${"tab-" + chosen} tabindex="0">${children}</div>`;
}
