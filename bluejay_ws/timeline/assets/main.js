// The page as a whole: the verdict, the keyboard, the theme, printing, and the connection of a live page.

import { byId, clock, element } from "./util.js";
import { change, go, look, onChange, shown, state, whole, zoom } from "./state.js";
import { drawLanes, startLanes } from "./lanes.js";
import { printRows, startList, step, stepProblem } from "./list.js";
import { drawLatency, startLatency } from "./latency.js";
import { startPlayer, toggle } from "./player.js";

const MARKS = { bad: "✕", warn: "!", note: "·" };

function drawVerdict(call) {
  byId("title").textContent = call.id ? `Call ${call.id}` : "Call";
  document.title = `${call.id ? `Call ${call.id}` : "Call"}: ${call.headline}`;
  byId("verdict").className = `verdict ${call.live ? "live" : call.level}`;
  byId("headline").textContent = call.headline;
  const all = [...call.findings, ...(call.differences ?? [])];
  const lines = all.length === 1 && all[0].text === call.headline ? [] : all;
  byId("findings").replaceChildren(...lines.map(findingOf));
  byId("figures").replaceChildren(...call.figures.map(figureOf));
  const chip = byId("state");
  chip.hidden = !call.delivery?.state;
  if (call.delivery?.state) {
    chip.textContent = `report ${call.delivery.state}`;
    chip.className = `chip ${{ delivered: "good", accepted: "good", parked: "bad", held: "bad" }[call.delivery.state] ?? "warn"}`;
    chip.title = call.delivery.reason ?? "";
  }
}

function findingOf(finding) {
  const line = element("li", finding.level);
  const button = element("button", "");
  button.type = "button";
  button.append(element("span", "mark", MARKS[finding.level]), finding.text);
  if (finding.at !== null) {
    button.append(element("span", "at", `  ${clock(finding.at)}`));
    button.addEventListener("click", () => goTo(finding.at));
  } else line.classList.add("still");
  line.append(button);
  return line;
}

/** Go to a place, and close enough to see it. */
function goTo(at) {
  const size = Math.min(whole(), Math.max(8000, whole() / 8));
  look(at - size / 3, at + (size * 2) / 3);
  const index = state.call.items.findIndex((item) => item.s >= at - 1);
  go(at, { chosen: index, showsOther: false });
  byId("lanes").focus({ preventScroll: true });
}

function figureOf([name, value]) {
  const pair = element("div");
  pair.append(element("dt", "", name), element("dd", "", value));
  return pair;
}

function drawTools() {
  const { tools } = state.call;
  byId("tools-part").hidden = !tools?.length;
  const rows = (tools ?? []).map(({ name, expected, actual, differs }) => {
    const counted = actual === expected ? "as expected" : actual > expected ? (expected ? "too often" : "not expected") : actual ? "too rarely" : "never called";
    const level = differs || actual < expected ? "bad" : actual === expected ? "good" : "warn";
    return rowOf(name, [[String(expected), ""], [String(actual), ""], [differs ? "with other parameters" : counted, level]]);
  });
  byId("tools-rows").replaceChildren(...rows);
}

function drawResult() {
  const { result } = state.call;
  byId("result-part").hidden = !result;
  byId("result-tools").hidden = !result?.tools.length;
  byId("result-rows").replaceChildren(...(result?.rows ?? []).map(([label, text, level]) => rowOf(label, [[text, level]])));
  byId("result-pairs").replaceChildren(
    ...(result?.tools ?? []).map(([name, words, level, ...sides]) => rowOf(name, [[words, level], ...sides.map((text) => [text, ""])])),
  );
}

function rowOf(label, cells) {
  const row = element("tr");
  const heading = element("th", "", label);
  heading.scope = "row";
  row.append(heading, ...cells.map(([text, level]) => element("td", level, text)));
  return row;
}

function drawAbout() {
  const { about } = shown();
  byId("about-part").hidden = !Object.keys(about).length;
  byId("about").textContent = JSON.stringify(about, null, 2);
}

function showCall(call) {
  drawVerdict(call);
  const before = state.call;
  const same = before && before.id === call.id;
  change({ call, showsOther: false, chosen: same ? state.chosen : -1, at: same ? Math.min(state.at, call.duration) : 0 });
  const sawAll = !same || state.to - state.from >= Math.max(before.duration, 1000) * 0.98;
  if (sawAll) look(0, whole());
  else look(state.from, state.to);
  drawTools();
  drawResult();
  drawAbout();
  byId("which").hidden = !call.against;
}

function swap(other) {
  if (!state.call.against) return;
  change({ showsOther: other, chosen: -1 });
  byId("this-call").setAttribute("aria-pressed", String(!other));
  byId("other-call").setAttribute("aria-pressed", String(other));
  drawAbout();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  change({ theme: name });
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const flip = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

const KEYS = {
  " ": toggle,
  ArrowLeft: (event) => go(state.at - (event.shiftKey ? 5000 : 1000)),
  ArrowRight: (event) => go(state.at + (event.shiftKey ? 5000 : 1000)),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  Home: () => go(0),
  End: () => go(state.call.duration),
  "+": () => zoom(0.6),
  "=": () => zoom(0.6),
  "-": () => zoom(1 / 0.6),
  "−": () => zoom(1 / 0.6),
  0: () => look(0, whole()),
  n: () => stepProblem(1),
  p: () => stepProblem(-1),
  j: () => step(1),
  k: () => step(-1),
  c: () => swap(!state.showsOther),
  t: flip,
  "/": () => byId("search").focus(),
  "?": () => byId("help").showModal(),
};

function onKey(event) {
  const { target } = event;
  if (target.matches("input, select")) {
    if (event.key === "Escape") {
      target.value = target.type === "search" ? "" : target.value;
      change({ query: byId("search").value });
      target.blur();
    }
    return;
  }
  if (!state.call || event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const vertical = event.key === "ArrowDown" || event.key === "ArrowUp";
  if (vertical && target !== byId("list")) return; // the page scrolls
  if (event.key === " " && target.matches("button, summary")) return; // it presses the button
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
}

function preparePrint(on) {
  const before = document.documentElement.dataset.theme;
  if (on) {
    document.documentElement.dataset.theme = "light";
    state.themeBefore = before;
  } else document.documentElement.dataset.theme = state.themeBefore ?? before;
  printRows(on);
  drawLanes();
  drawLatency();
}

/** Read a live page's calls as they change: the list of them, and the one that is shown. */
function follow(path) {
  let key = null;
  let chosenByReader = false;
  const source = new EventSource(`${path}events`);
  const fetchCall = async () => {
    try {
      const wanted = key;
      const answer = await fetch(`${path}calls/${encodeURIComponent(wanted)}`);
      const call = answer.ok && (await answer.json());
      if (call && wanted === key) showCall(call);
    } catch {
      byId("lost").hidden = false; // the next event asks again
    }
  };
  source.addEventListener("calls", (event) => {
    const { calls, changed } = JSON.parse(event.data);
    if (!chosenByReader && calls.length) key = calls.at(-1).key;
    const nav = byId("calls");
    nav.hidden = calls.length < 2;
    nav.replaceChildren(...calls.map((each) => {
      const button = element("button", each.live ? "" : each.level, each.id);
      button.title = each.headline;
      button.setAttribute("aria-pressed", String(each.key === key));
      button.addEventListener("click", () => {
        key = each.key;
        chosenByReader = true;
        for (const other of nav.children) other.setAttribute("aria-pressed", String(other === button));
        fetchCall();
      });
      return button;
    }));
    if (!calls.length) byId("headline").textContent = "Waiting for a call.";
    if (key && (changed === key || changed === null || state.call?.key !== key)) fetchCall();
  });
  source.addEventListener("open", () => (byId("lost").hidden = true));
  source.addEventListener("error", () => (byId("lost").hidden = false));
}

function startPage() {
  document.documentElement.dataset.theme = prefersDark.matches ? "dark" : "light";
  prefersDark.addEventListener("change", () => setTheme(prefersDark.matches ? "dark" : "light"));
  startLanes();
  startList();
  startLatency();
  startPlayer();
  for (const [id, act] of Object.entries({
    theme: flip, "help-open": KEYS["?"], "zoom-in": KEYS["+"], "zoom-out": KEYS["-"], "zoom-fit": KEYS[0],
    "next-problem": KEYS.n, "previous-problem": KEYS.p, "this-call": () => swap(false), "other-call": () => swap(true),
  })) byId(id).addEventListener("click", act);
  document.addEventListener("keydown", onKey);
  window.addEventListener("beforeprint", () => preparePrint(true));
  window.addEventListener("afterprint", () => preparePrint(false));
  onChange((names) => names.has("showsOther") && drawAbout());
  const data = JSON.parse(byId("data").textContent);
  if (data.call) {
    drawVerdict(data.call); // can be read while everything else is made
    setTimeout(() => showCall(data.call), 0);
  }
  if (data.live) follow(data.live);
}

startPage();
