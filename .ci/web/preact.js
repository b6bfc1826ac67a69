// The libraries of the page, as one module: see daemon/web/static/vendor.
import { h } from "preact";
import htm from "htm";

export { h, render, Fragment, createContext, createRef } from "preact";
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext, useId, useReducer, useErrorBoundary } from "preact/hooks";
export { Signal, signal, computed, effect, batch, untracked, useSignal, useComputed, useSignalEffect } from "@preact/signals";
export const html = htm.bind(h);
