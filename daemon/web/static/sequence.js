// @ts-check

import { html, Heading } from "./ui.js";

/** @param {{conversation?: string, seq?: number}} props */
export function Sequence({ conversation = "" }) {
  return html`<${Heading} title="Sequence" focus=${conversation} />`;
}
