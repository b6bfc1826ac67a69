// @ts-check
// Files that the reader keeps: attachments and exports. They are fetched with the session's
// token, which stands in no address.

import { fetchRaw } from "./store.js";

const keepFor = 60000; // ms that a browser has to take a file over

/**
 * Saves what the daemon answers as a file.
 * @param {string} path with its query
 * @param {string} name of the file
 * @returns {Promise<string>} why it could not be saved, empty where it was
 */
export async function save(path, name) {
  try {
    const response = await fetchRaw("GET", path);
    const url = URL.createObjectURL(new Blob([await response.blob()], { type: "application/octet-stream" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = savedAs(response) || name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), keepFor);
    return "";
  } catch (err) {
    return `${name} could not be saved: ${/** @type {Error} */ (err).message}`;
  }
}

/** The name that the daemon gives a file, in which nothing misleads. @param {Response} response */
function savedAs(response) {
  const found = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "");
  return found ? decodeURIComponent(found[1]) : "";
}

/** @param {string} ref of the message @param {import("./logwindow.js").Attachment} a */
export function saveAttachment(ref, a) {
  return save(`/v1/attachments/${a.sha256}?message=${encodeURIComponent(ref)}`, a.name);
}

/** The formats in which a conversation can be taken along. */
export const formats = /** @type {const} */ ([["markdown", "Markdown", "md"], ["html", "HTML", "html"], ["jsonl", "JSON lines", "jsonl"], ["mbox", "Mail (mbox)", "mbox"]]);

/** @param {string} ref of the conversation @param {string} format @param {string} ending of the file's name */
export function saveConversation(ref, format, ending) {
  return save(`/v1/conversations/${encodeURIComponent(ref)}/export?format=${format}`, `${ref}.${ending}`);
}
