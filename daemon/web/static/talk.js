// @ts-check

import { html, Heading } from "./ui.js";

/** @param {{conversation?: string, seq?: number}} props */
export function Talk({ conversation = "" }) {
  return html`<${Heading} title="Talk" focus=${conversation} />`;
}
