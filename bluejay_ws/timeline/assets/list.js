// The list of everything that happened. Only the rows that can be seen exist, however long the call was.

import { byId, clock, element, firstIndex, lasted, length, oncePerFrame } from "./util.js";
import { change, choose, onChange, shown, state } from "./state.js";

const ROW = 34;
const SPARE = 6;
const PRINTED = 3000;
const NAMES = {
  caller: "Caller", agent: "Agent", tool: "Tool", event: "Event", latency: "Wait",
  interruption: "Overlap", silence: "Silence", error: "Error", close: "End",
};

const list = byId("list");
const rows = byId("rows");
let indexes = []; // of the items that are listed, in order
let texts = null; // what is searched, made when it is first needed
let current = -1; // index of the item at the reader's place
let printing = false;

const draw = oncePerFrame(drawRows);

function searched(item) {
  return `${NAMES[item.k]} ${item.t} ${item.p ?? ""} ${JSON.stringify(item.f)}`.toLowerCase();
}

/** Make the searched texts piece by piece, so that no key waits for them. */
function prepareTexts(items, made = []) {
  if (items !== shown().items || texts) return;
  for (let left = 1000; left > 0 && made.length < items.length; left -= 1) made.push(searched(items[made.length]));
  if (made.length < items.length) setTimeout(() => prepareTexts(items, made), 10);
  else texts = made;
}

/** Find what is listed, from the words that are searched. */
function filter() {
  const { items } = shown();
  const query = state.query.trim().toLowerCase();
  if (query && !texts) texts = items.map(searched);
  indexes = [];
  for (let at = 0; at < items.length; at += 1) if (!query || texts[at].includes(query)) indexes.push(at);
  state.matches = query ? new Set(indexes) : null;
  byId("count").textContent = query ? `${indexes.length} of ${items.length}` : `${items.length}`;
  rows.style.height = `${indexes.length * ROW}px`;
}

function drawRows() {
  if (!state.call) return;
  const first = printing ? 0 : Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const count = printing ? PRINTED : Math.ceil(list.clientHeight / ROW) + 2 * SPARE;
  const made = [];
  for (let place = first; place < Math.min(indexes.length, first + count); place += 1) made.push(rowOf(place));
  rows.replaceChildren(...made);
  const chosen = byId(`row-${state.chosen}`);
  if (chosen) list.setAttribute("aria-activedescendant", chosen.id);
  else list.removeAttribute("aria-activedescendant");
}

function rowOf(place) {
  const index = indexes[place];
  const item = shown().items[index];
  const row = element("div", `row ${item.k}${item.p ? " wrong" : ""}`);
  row.id = `row-${index}`;
  row.style.transform = `translateY(${place * ROW}px)`;
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", String(index === state.chosen));
  row.setAttribute("aria-setsize", String(indexes.length));
  row.setAttribute("aria-posinset", String(place + 1));
  row.classList.toggle("chosen", index === state.chosen);
  row.classList.toggle("now", index === current);
  row.append(element("span", "when", clock(item.s)), element("span", "who", NAMES[item.k]), element("span", "what", lineOf(item)));
  if (item.m) row.append(element("span", "mock", "mocked"));
  if (item.n > 1) row.append(element("span", "many", `×${item.n}`));
  return row;
}

/** One item in one line. */
function lineOf(item) {
  if (item.k === "tool") return `${item.t}(${item.f.parameters ? JSON.stringify(item.f.parameters).slice(0, 200) : ""})${item.p ? ` ${item.p}` : ""}`;
  if (item.k === "latency") return `${item.t}: ${length(lasted(item, "latency_ms"))}`;
  if (item.k === "silence") return `Nobody was heard for ${length(lasted(item))}`;
  if (item.k === "interruption" && lasted(item, "overlap_ms")) return `${item.t}, both for ${length(lasted(item, "overlap_ms"))}`;
  return item.t.slice(0, 400) || "(no words)";
}

/** Show everything that is known of the chosen item. */
function drawDetails() {
  const item = state.call && shown().items[state.chosen];
  const box = byId("details");
  if (!item) {
    box.replaceChildren(element("p", "dim", "Choose an item to see everything that the report says of it."));
    return;
  }
  const made = [element("h3", "", item.k === "caller" || item.k === "agent" ? NAMES[item.k] : item.t), element("p", "dim", whenOf(item))];
  if (item.p) made.push(element("p", "bad", `It ${item.p}`));
  if (item.m) made.push(element("p", "mock", "A stand-in ran in the place of this tool (simulated_tools)."));
  if (item.k === "caller" || item.k === "agent") made.push(element("p", "", item.t || "(no words)"));
  for (const [name, value] of Object.entries(item.f)) {
    made.push(element("h4", "", name.replaceAll("_", " ")));
    made.push(element("pre", "", typeof value === "string" ? value : JSON.stringify(value, null, 2)));
  }
  box.replaceChildren(...made);
}

function whenOf(item) {
  const many = item.n > 1 ? `, ${item.n} times` : "";
  if (item.e !== null && item.e > item.s) return `${clock(item.s)} to ${clock(item.e)}, ${length(item.e - item.s)}${many}`;
  return `at ${clock(item.s)}${many}`;
}

/** The next listed item after (or before) the chosen one. */
export function step(by) {
  if (!indexes.length) return;
  const place = firstIndex(indexes, (index) => index >= (state.chosen < 0 ? nowIndex() : state.chosen));
  const to = state.chosen < 0 ? place : place + by;
  choose(indexes[Math.min(Math.max(to, 0), indexes.length - 1)]);
}

/** The next problem after (or before) the reader's place. */
export function stepProblem(by) {
  const { items } = shown();
  const limit = state.call.latency.threshold;
  const isProblem = (item) =>
    item.p || ["error", "interruption", "silence"].includes(item.k) ||
    (item.k === "latency" && lasted(item, "latency_ms") > limit);
  const from = state.chosen >= 0 ? state.chosen : nowIndex() - (by > 0 ? 1 : 0);
  for (let at = from + by; at >= 0 && at < items.length; at += by) {
    if (isProblem(items[at])) {
      choose(at);
      return;
    }
  }
}

const nowIndex = () => Math.max(0, firstIndex(shown().items, (item) => item.s > state.at) - 1);

function reveal(index) {
  const place = firstIndex(indexes, (each) => each >= index);
  if (indexes[place] !== index) return;
  const top = place * ROW;
  if (top < list.scrollTop || top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
}

/** Make all rows for printing, or only those that can be seen again. */
export function printRows(on) {
  printing = on;
  drawRows();
}

/** Connect the list to the page. */
export function startList() {
  list.addEventListener("scroll", draw, { passive: true });
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) choose(Number(row.id.slice(4)));
  });
  let waiting = 0;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ query: event.target.value }), 90);
  });
  onChange((names) => {
    if (names.has("call") || names.has("showsOther")) {
      texts = null;
      const { items } = shown();
      setTimeout(() => prepareTexts(items), 300);
    }
    if (names.has("call") || names.has("showsOther") || names.has("query")) filter();
    if (names.has("chosen") || names.has("call") || names.has("showsOther")) drawDetails();
    if (names.has("chosen") && state.chosen >= 0) reveal(state.chosen);
    const now = nowIndex();
    const moved = now !== current;
    current = now;
    if (moved && names.size === 1 && names.has("at") && state.plays) reveal(now);
    if (moved || names.size > 1 || !names.has("at")) draw();
  });
  new ResizeObserver(draw).observe(list);
}
