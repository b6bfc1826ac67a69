// @ts-check
// Types of the libraries, for editors and the checker; nothing here runs.

/** @template T @typedef {{value: T, peek(): T, subscribe(fn: (value: T) => void): () => void}} Signal */

export {};
