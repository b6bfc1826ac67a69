// @ts-check

import { html, Heading } from "./ui.js";

/** @param {{conversation?: string, seq?: number}} props */
export function Transcript({ conversation = "" }) {
  return html`<${Heading} title="Transcript" focus=${conversation} />`;
}
