// @ts-check
// The page: its frame, its keys, and which view stands in the middle.

import { render, signal, useEffect } from "./vendor/preact.js";
import { Bounded, Heading, copy, html, toast, toasted } from "./ui.js";
import { navigate, route, startRouter } from "./router.js";
import { isOperator, notice, session, start } from "./store.js";
import { Agents, Conversations, NowBar } from "./lists.js";
import { AgentPage, Home, RequestPage, SignIn } from "./pages.js";
import { ConversationControls } from "./operator.js";
import { Head } from "./head.js";
import { Help, Switcher } from "./switcher.js";
import { Hosts } from "./hosts.js";
import { Search } from "./search.js";
import { Sequence } from "./sequence.js";
import { Talk } from "./talk.js";
import { Transcript } from "./transcript.js";
import { onKey } from "./keys.js";

/** What lies over the page: the switcher, the help, the drawer of agents, or nothing. */
const over = signal("");

/** Closes what lies over the page, or only what is named. @param {string} [which] */
function close(which = over.value) {
  if (over.value === which) over.value = "";
}

function Page() {
  useEffect(() => close(), [route.value.visit]);
  useEffect(() => {
    if (notice.value) toast(notice.value);
  }, [notice.value]);
  if (session.value === undefined) return html`<main id="main" class="alone"><p class="empty">Connecting…</p></main>`;
  if (session.value === null) return html`<${SignIn} />`;
  return html`<a class="skip" href="#main" data-jump onClick=${skip}>Skip to the main part</a>
    <${Bounded} what="The head" class="head"><${Head} onSwitch=${() => (over.value = "switcher")} onHelp=${() => (over.value = "help")} agentsOpen=${over.value === "agents"} onAgents=${() => (over.value = over.value === "agents" ? "" : "agents")} /><//>
    <${Bounded} what="The bar" class="now"><${NowBar} /><//>
    <div class="columns at-${route.value.name}">
      <${Bounded} what="The list of conversations" class="side conversations"><${Conversations} /><//>
      <main id="main" tabindex="-1"><${Bounded} what="This view" class="sheet"><${View} /><//></main>
      ${over.value === "agents" && html`<div class="shade" onClick=${() => close()}></div>`}
      <${Bounded} what="The list of agents" class=${"side agents " + (over.value === "agents" ? "open" : "")}><${Agents} open=${over.value === "agents"} onClose=${() => close()} /><//>
    </div>
    ${over.value === "switcher" && html`<${Bounded} what="The list of places" class="toast"><${Switcher} onClose=${() => close("switcher")} /><//>`}
    ${over.value === "help" && html`<${Bounded} what="The help" class="toast"><${Help} onClose=${() => close("help")} /><//>`}
    ${toasted.value && html`<p class="toast" aria-hidden="true">${toasted.value}</p>`}`;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function View() {
  const { name, ref, seq, query } = route.value;
  switch (name) {
    case "home":
      return html`<${Home} />`;
    case "conversation":
      return html`<${Transcript} key=${ref} conversation=${ref} seq=${seq} />${isOperator.value && html`<${Bounded} key=${"o" + ref} what="The field to write in" class="controls"><${ConversationControls} conversation=${ref} /><//>`}`;
    case "sequence":
      return html`<${Sequence} key=${ref} conversation=${ref} />`;
    case "agent":
      return html`<${AgentPage} key=${ref} name=${ref} />`;
    case "request":
      return html`<${RequestPage} key=${ref} request=${ref} />`;
    case "search":
      return html`<${Search} query=${query} />`;
    case "talk":
      return html`<${Talk} />`;
    case "hosts":
      return html`<${Hosts} />`;
  }
  return html`<section class="sheet"><${Heading} title="There is nothing here" /><p>No view has this address. <a href="/">Go to the overview</a>.</p></section>`;
}

onKey({
  "ctrl+k": () => (over.value = "switcher"),
  "?": () => (over.value = "help"),
  ".": () => void copy(location.href, "Link"),
  "/": () => focus("search"),
  "g c": () => focus("filter-conversations"),
  "g a": () => {
    over.value = "agents";
    requestAnimationFrame(() => focus("filter-agents"));
  },
  "g h": () => navigate("/hosts"),
  "g t": () => navigate("/talk"),
  "g o": () => navigate("/"),
  "g s": () => navigate("/search"),
  escape: () => close(),
});

/** @param {string} id */
function focus(id) {
  const field = document.getElementById(id);
  if (field instanceof HTMLInputElement && field.offsetParent) {
    field.focus();
    field.select();
  } else if (id === "search") {
    navigate("/search");
  } else if (id === "filter-conversations") {
    navigate("/");
  }
}

startRouter();
render(html`<${Bounded} what="The page" class="alone"><${Page} /><//>`, /** @type {HTMLElement} */ (document.getElementById("page")));
void start();
