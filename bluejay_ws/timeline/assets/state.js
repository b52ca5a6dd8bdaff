// What is shown, and where in the call the reader is: the one place that every part of the page reads and changes.

import { clamp } from "./util.js";

export const state = {
  call: null, // the view of a report, as timeline/page.py makes it
  showsOther: false, // the list shows the call that this one is compared with
  at: 0, // milliseconds: where the reader is
  from: 0, // milliseconds: the left edge of the picture
  to: 1, // milliseconds: its right edge
  chosen: -1, // index in the items of the shown call
  query: "",
  follows: false, // a live call: the picture grows with it
};

const listeners = [];

/** Have a function called after each change, with the set of names that changed. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Change several fields at once, and tell everybody. */
export function change(fields) {
  Object.assign(state, fields);
  const names = new Set(Object.keys(fields));
  for (const listener of listeners) listener(names);
}

/** The call whose items stand in the list. */
export const shown = () => (state.showsOther && state.call.against ? state.call.against : state.call);

/** The length of everything that the picture shows, in milliseconds, with some air. */
export function whole() {
  const longest = Math.max(state.call?.duration ?? 0, state.call?.against?.duration ?? 0, 1000);
  return longest * 1.02;
}

/** Show this stretch of time, kept within the call. */
export function look(from, to) {
  const size = clamp(to - from, Math.min(200, whole()), whole());
  const start = clamp(from, 0, whole() - size);
  change({ from: start, to: start + size });
}

/** Zoom by a factor about a place. */
export function zoom(factor, about = state.at) {
  const place = clamp(about, state.from, state.to);
  look(place - (place - state.from) * factor, place + (state.to - place) * factor);
}

/** Go to a place in the call; the picture follows if it is outside. */
export function go(at, more = {}) {
  const place = clamp(at, 0, Math.max(state.call.duration, 0));
  change({ at: place, ...more });
  const size = state.to - state.from;
  if (place < state.from || place > state.to) look(place - size / 3, place + (size * 2) / 3);
}

/** Choose an item, and go to its beginning. */
export function choose(index) {
  const item = shown().items[index];
  if (item) go(item.s, { chosen: index });
}
