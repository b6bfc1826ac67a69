// @ts-check

import { html, Heading } from "./ui.js";

/** @param {{conversation?: string, seq?: number}} props */
export function Search({ conversation = "" }) {
  return html`<${Heading} title="Search" focus=${conversation} />`;
}
