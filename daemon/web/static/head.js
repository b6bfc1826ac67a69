// @ts-check
// The head of the page: where one can go, the search field, and the switch for the look.

import { effect, signal } from "./vendor/preact.js";
import { html, visible } from "./ui.js";
import { navigate, route } from "./router.js";
import { MailCount } from "./person.js";
import { session, signOut } from "./store.js";

const themeKey = "duo.theme";
const themes = /** @type {const} */ ({ auto: "as the system", light: "light", dark: "dark" });

/** @type {{value: keyof typeof themes}} */
const theme = signal(/** @type {any} */ (localStorage.getItem(themeKey) ?? "auto"));
effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

function nextTheme() {
  const names = /** @type {(keyof typeof themes)[]} */ (Object.keys(themes));
  theme.value = names[(names.indexOf(theme.value) + 1) % names.length] ?? "auto";
  localStorage.setItem(themeKey, theme.value);
}

const places = [
  ["/", "home", "Overview"],
  ["/talk", "talk", "Talk"],
  ["/hosts", "hosts", "Hosts"],
  ["/search", "search", "Search"],
];

/** @param {{onSwitch: () => void, onHelp: () => void, onAgents: () => void, agentsOpen: boolean}} props */
export function Head({ onSwitch, onHelp, onAgents, agentsOpen }) {
  const { host, role } = session.value ?? { host: "", role: "" };
  return html`<header class="head">
    <a class="brand" href="/" title="Overview of this host"><span class="mark" aria-hidden="true"></span>duo <span class="host">${visible(host)}</span></a>
    <nav class="places" aria-label="Views">${places.map(([href, name, label]) => html`<a key=${name} class="place place-${name}" href=${href} aria-current=${route.value.name === name ? "page" : undefined}>${label}</a>`)}
      <button class="place place-agents" onClick=${onAgents} aria-controls="agents" aria-expanded=${agentsOpen}>Agents</button></nav>
    <form class="search" role="search" onSubmit=${search}><input id="search" name="q" type="search" aria-label="Search all conversations" placeholder="Search  /" autocomplete="off" maxlength="400" /></form>
    <div class="tools">
      ${role === "operator" && html`<span class="chip operator" title="you may write, close conversations, and mute or block agents">operator</span>`}
      <${MailCount} />
      <button class="tool" onClick=${onSwitch} title="Go to an agent or a conversation (Ctrl K)">Go to <kbd>Ctrl K</kbd></button>
      <button class="icon" onClick=${nextTheme} title=${"Look: " + themes[theme.value]} aria-label=${`Look: ${themes[theme.value]}. Change`}><span class="theme-mark theme-${theme.value}" aria-hidden="true"></span></button>
      <button class="icon" onClick=${onHelp} title="Keys and help (?)" aria-label="Keys and help">?</button>
      <button class="tool sign-out" onClick=${() => void signOut()}>Sign out</button>
    </div>
  </header>`;
}

/** @param {SubmitEvent} event */
function search(event) {
  event.preventDefault();
  const text = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("q") ?? "").trim();
  navigate(text ? "/search?q=" + encodeURIComponent(text) : "/search");
}
