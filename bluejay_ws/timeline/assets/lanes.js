// The picture: one lane for each voice, the tools, the events, and what the caller waited for. Drawn on a canvas, so
// that twenty thousand items cost as little as twenty: what would fall on the same pixel is drawn once.

import { byId, bytes, clamp, clock, colours, firstIndex, lasted, length, notes, oncePerFrame, prepare } from "./util.js";
import { choose, go, look, onChange, state, whole, zoom } from "./state.js";

const OVERVIEW = 26;
const RULER = 20;
const LANES = [
  { name: "caller", title: "Caller", kinds: ["caller"], height: 58 },
  { name: "agent", title: "Agent, as heard", kinds: ["agent"], height: 58 },
  { name: "wait", title: "Waits, silences, overlaps", kinds: ["latency", "silence", "interruption"], height: 34 },
  { name: "tool", title: "Tools", kinds: ["tool"], height: 40 },
  { name: "event", title: "Events", kinds: ["event", "error", "close"], height: 40 },
];
const TITLE = 14;
const ROW = 24;
const MOST_ROWS = 8;

let groups = []; // one for this call, one for the call beside it
let palette = {};
let width = 0;

const box = byId("lanes");
const draw = oncePerFrame(drawLanes);
const drawTop = oncePerFrame(drawPlace);

/** Prepare the items of a call: by lane, in order of time, with the longest item of each lane. */
function groupOf(call, title) {
  const lanes = LANES.map((lane) => ({ ...lane, items: [], longest: 0 }));
  const laneOf = Object.fromEntries(lanes.flatMap((lane) => lane.kinds.map((kind) => [kind, lane])));
  call.items.forEach((item, index) => {
    const lane = laneOf[item.k];
    lane.items.push({ item, index });
    lane.longest = Math.max(lane.longest, (item.e ?? item.s) - item.s);
  });
  lanes.forEach(intoRows);
  const problems = call.items.filter((item) => item.k === "error" || item.k === "interruption" || item.p);
  return { call, title, lanes, problems, levels: levelsOf(call.sound) };
}

/** Give tools and events that last at the same time a row each: in one row they would hide each other. */
function intoRows(lane) {
  const ends = [0];
  for (const entry of lane.items) {
    const { s, e } = entry.item;
    const free = ends.findIndex((end) => end <= s);
    const isShared = !["tool", "event"].includes(lane.name) || (free < 0 && ends.length === MOST_ROWS);
    entry.row = isShared ? 0 : free < 0 ? ends.length : free;
    ends[entry.row] = Math.max(ends[entry.row] ?? 0, e ?? s);
  }
  lane.rows = ends.length;
  lane.height += (lane.rows - 1) * ROW;
}

function levelsOf(sound) {
  if (!sound) return null;
  const runs = (name) => sound[name].map((run) => ({ start: run.start, levels: bytes(run.levels) }));
  return { block: sound.block_ms, caller: runs("caller"), agent: runs("agent") };
}

/** The height of everything, in CSS pixels. */
function heightOf() {
  const lanes = groups.flatMap((group) => group.lanes).reduce((sum, lane) => sum + lane.height, 0);
  return OVERVIEW + RULER + lanes + (groups.length > 1 ? groups.length * 20 : 0) + 6;
}

const x = (ms) => ((ms - state.from) / (state.to - state.from)) * width;
const time = (px) => state.from + (px / width) * (state.to - state.from);

/** Draw at once, in the colours of now. */
export function drawLanes() {
  if (!state.call) return;
  width = box.clientWidth;
  palette = colours();
  const pen = prepare(byId("lanes-base"), width, heightOf());
  pen.font = '12px system-ui, "Liberation Sans", sans-serif';
  pen.textBaseline = "middle";
  drawOverview(pen);
  drawRuler(pen);
  let y = OVERVIEW + RULER;
  for (const group of groups) {
    if (groups.length > 1) {
      pen.fillStyle = palette.text;
      pen.fillText(group.title, 6, y + 10);
      y += 20;
    }
    y = drawGroup(pen, group, y);
  }
  drawPlace();
}

/** The whole call in one strip, with the part that the picture shows. */
function drawOverview(pen) {
  const scale = width / whole();
  pen.fillStyle = palette.shade;
  pen.fillRect(0, 0, width, OVERVIEW);
  for (const [lane, y] of [[0, 4], [1, 13]]) {
    const { items, name } = groups[0].lanes[lane];
    pen.fillStyle = palette[name];
    let last = -1;
    for (const { item } of items) {
      const left = item.s * scale;
      const right = Math.max(left + 1, (item.e ?? item.s) * scale);
      if (right <= last) continue;
      pen.fillRect(Math.max(left, last), y, right - Math.max(left, last), 7);
      last = right;
    }
  }
  pen.fillStyle = palette.bad;
  let last = -9;
  for (const item of groups[0].problems) {
    const place = item.s * scale;
    if (place - last < 1) continue;
    pen.fillRect(place, 0, 2, OVERVIEW);
    last = place;
  }
  pen.strokeStyle = palette.focus;
  pen.lineWidth = 2;
  pen.strokeRect(state.from * scale + 1, 1, Math.max(4, (state.to - state.from) * scale - 2), OVERVIEW - 2);
  pen.lineWidth = 1;
}

const STEPS = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000];

function drawRuler(pen) {
  const span = state.to - state.from;
  const step = STEPS.find((size) => (size / span) * width > 70) ?? 7200000;
  pen.strokeStyle = palette.line;
  pen.fillStyle = palette.dim;
  pen.beginPath();
  for (let ms = Math.ceil(state.from / step) * step; ms <= state.to; ms += step) {
    const place = Math.round(x(ms)) + 0.5;
    pen.moveTo(place, OVERVIEW);
    pen.lineTo(place, heightOf());
    pen.fillText(clock(ms), place + 3, OVERVIEW + RULER / 2 + 1);
  }
  pen.stroke();
}

function drawGroup(pen, group, top) {
  let y = top;
  const places = {};
  for (const lane of group.lanes) {
    places[lane.name] = y + TITLE;
    if (lane.name === "caller" || lane.name === "agent") drawVoice(pen, group, lane, y + TITLE, lane.height - TITLE - 4);
    else drawLane(pen, group, lane, y + TITLE, lane.height - (lane.rows - 1) * ROW - TITLE - 4);
    drawTitle(pen, lane.title, y);
    y += lane.height;
  }
  drawOverlaps(pen, group, places.caller, places.agent + LANES[1].height - TITLE - 4);
  return y;
}

function drawTitle(pen, text, y) {
  pen.font = '11px system-ui, "Liberation Sans", sans-serif';
  pen.fillStyle = palette.card;
  pen.globalAlpha = 0.85;
  pen.fillRect(0, y, pen.measureText(text).width + 12, TITLE);
  pen.globalAlpha = 1;
  pen.fillStyle = palette.dim;
  pen.fillText(text, 6, y + TITLE / 2 + 1);
  pen.font = '12px system-ui, "Liberation Sans", sans-serif';
}

/** The entries of a lane that can be seen. */
function* visible(lane) {
  const first = firstIndex(lane.items, ({ item }) => item.s >= state.from - lane.longest);
  for (let at = first; at < lane.items.length; at += 1) {
    const entry = lane.items[at];
    if (entry.item.s > state.to) return;
    if ((entry.item.e ?? entry.item.s) >= state.from) yield entry;
  }
}

function fade(group, index) {
  const matches = group === groups[state.showsOther ? 1 : 0] ? state.matches : null;
  return matches && !matches.has(index) ? 0.2 : 1;
}

function drawVoice(pen, group, lane, y, height) {
  const sounds = Boolean(group.levels);
  let last = -1;
  for (const { item, index } of visible(lane)) {
    const left = Math.max(-2, x(item.s));
    const right = Math.min(width + 2, Math.max(left + 1.5, x(item.e ?? item.s)));
    if (right - last < 0.75) continue;
    last = right;
    const isChosen = isChosenIn(group, index);
    pen.globalAlpha = fade(group, index) * (isChosen ? 0.5 : sounds ? 0.16 : 0.28);
    pen.fillStyle = palette[lane.name];
    pen.fillRect(left, y, right - left, height);
    pen.globalAlpha = fade(group, index);
    pen.fillRect(left, y, Math.min(3, right - left), height);
    if (isChosen) outline(pen, left, y, right - left, height);
    if (right - left > 26) words(pen, item.t, Math.max(left, 0) + 7, sounds ? y + 9 : y + height / 2, right - Math.max(left, 0) - 9);
  }
  pen.globalAlpha = 1;
  if (sounds) drawWave(pen, group.levels, lane.name, y, height);
}

/** The loudness of a voice, one line for each pixel. */
function drawWave(pen, levels, name, y, height) {
  const middle = y + height * 0.62;
  const half = height * 0.36;
  pen.fillStyle = palette[name];
  for (const run of levels[name]) {
    const end = run.start + run.levels.length * levels.block;
    if (end < state.from || run.start > state.to) continue;
    const from = Math.max(0, Math.floor(x(run.start)));
    const to = Math.min(width, x(end));
    for (let px = from; px < to; px += 1) {
      const first = Math.max(0, Math.floor((time(px) - run.start) / levels.block));
      const last = Math.max(first + 1, Math.floor((time(px + 1) - run.start) / levels.block));
      let peak = 0;
      for (let at = first; at < last && at < run.levels.length; at += 1) peak = Math.max(peak, run.levels[at]);
      const size = Math.max(0.5, (Math.min(255, peak * 1.6) / 255) * half);
      pen.fillRect(px, middle - size, 1, size * 2);
    }
  }
}

const isWrong = (item) => item.k === "error" || item.k === "interruption" || Boolean(item.p);

function laneColour(item) {
  if (isWrong(item)) return palette.bad;
  if (item.k === "latency") return lasted(item, "latency_ms") > state.call.latency.threshold ? palette.bad : palette.wait;
  return { tool: palette.tool, silence: palette.dim }[item.k] ?? palette.event;
}

function drawLane(pen, group, lane, y, height) {
  const entries = [...visible(lane)];
  for (let row = 0; row < lane.rows; row += 1)
    drawRow(pen, group, lane, entries.filter((entry) => entry.row === row), y + row * ROW, height);
}

function drawRow(pen, group, lane, entries, y, height) {
  let last = -1;
  let wrong = false;
  entries.forEach(({ item, index }, place) => {
    const left = Math.max(-2, x(item.s));
    const right = Math.min(width + 2, Math.max(left + 3, x(item.e ?? item.s)));
    if (right - last < 0.75 && !(isWrong(item) && !wrong)) return;
    last = right;
    wrong = isWrong(item);
    pen.globalAlpha = fade(group, index);
    pen.fillStyle = laneColour(item);
    const span = item.e !== null && item.e > item.s;
    pen.globalAlpha *= item.n > 1 || item.m ? 0.2 : span ? 0.55 : 1;
    pen.fillRect(left, y, right - left, lane.name === "wait" ? height * 0.7 : height);
    pen.globalAlpha = fade(group, index);
    if (item.m) dashed(pen, left, y, right - left, height);
    if (isChosenIn(group, index)) outline(pen, left - 1, y, right - left + 2, height);
    let after = place + 1; // an item that begins here too is hidden by this one, and takes none of its room
    while (after < entries.length && x(entries[after].item.s) - left < 1) after += 1;
    const room = (after < entries.length ? x(entries[after].item.s) : width) - left - 8;
    if (room > 24) label(pen, lane, item, left + 6, y + (lane.name === "wait" ? height * 0.35 : height / 2), room);
  });
  pen.globalAlpha = 1;
}

function label(pen, lane, item, left, y, room) {
  const counted = item.n > 1 ? `${item.t} ×${item.n}` : item.t;
  const text = item.k === "interruption" ? "both speak" : item.k === "latency" ? length(lasted(item, "latency_ms")) : item.k === "silence" ? `silence, ${length(lasted(item))}` : counted;
  words(pen, `${item.p ? "✕ " : ""}${text}${item.m ? " (mocked)" : ""}`, left, y, room);
}

/** Text that ends where its room does. */
function words(pen, text, left, y, room) {
  const fits = Math.floor(room / 5);
  if (fits < 2) return;
  pen.save();
  pen.beginPath();
  pen.rect(left, y - 10, room, 20);
  pen.clip();
  pen.fillStyle = palette.text;
  pen.fillText(text.length > fits * 2 ? text.slice(0, fits * 2) : text, left, y);
  pen.restore();
}

/** The frame of a tool in whose place a stand-in ran. */
function dashed(pen, left, y, w, h) {
  pen.strokeStyle = palette.tool;
  pen.setLineDash([3, 3]);
  pen.strokeRect(left + 0.5, y + 0.5, Math.max(2, w - 1), h - 1);
  pen.setLineDash([]);
}

function outline(pen, left, y, w, h) {
  pen.strokeStyle = palette.focus;
  pen.lineWidth = 2;
  pen.strokeRect(left + 1, y + 1, Math.max(1, w - 2), h - 2);
  pen.lineWidth = 1;
}

/** Where both spoke at once, over both lanes; and what the agent had sent ahead. */
function drawOverlaps(pen, group, top, bottom) {
  for (const { item } of visible(group.lanes[2])) {
    if (item.k !== "interruption") continue;
    hatch(pen, x(item.s), Math.max(2, x(item.s + lasted(item, "overlap_ms")) - x(item.s)), top, bottom - top, 0.75);
    const queued = Number(notes(item).queued_ms) || 0;
    if (queued > 0) hatch(pen, x(item.s), x(item.s + queued) - x(item.s), bottom - 7, 7, 1);
  }
}

function hatch(pen, left, w, top, h, strength) {
  if (left > width || left + w < 0) return;
  pen.save();
  pen.beginPath();
  pen.rect(Math.max(left, -2), top, Math.min(w, width + 4), h);
  pen.clip();
  pen.strokeStyle = palette.bad;
  pen.globalAlpha = strength;
  pen.beginPath();
  const from = Math.max(left, -2);
  const to = Math.min(left + w, width + 2);
  for (let place = from - h; place < to; place += 6) {
    pen.moveTo(place, top + h);
    pen.lineTo(place + h, top);
  }
  pen.stroke();
  pen.restore();
}

const isChosenIn = (group, index) => state.chosen === index && group === groups[state.showsOther ? 1 : 0];

/** The line at the reader's place, on a canvas of its own: it moves with every frame while the call plays. */
function drawPlace() {
  if (!state.call || !width) return;
  const pen = prepare(byId("lanes-top"), width, heightOf());
  pen.fillStyle = palette.text;
  pen.fillRect(Math.round(x(state.at)) - 1, OVERVIEW, 2, heightOf());
  pen.fillRect((state.at / whole()) * width - 1, 0, 2, OVERVIEW);
  box.setAttribute("aria-valuenow", String(Math.round(state.at / 100) / 10));
  box.setAttribute("aria-valuetext", `${clock(state.at)} of ${clock(state.call.duration)}`);
}

/** What lies under the pointer: the group and the index of an item; null where there is none. */
function hit(px, py) {
  let y = OVERVIEW + RULER;
  for (const group of groups) {
    if (groups.length > 1) y += 20;
    for (const lane of group.lanes) {
      const row = clamp(Math.floor((py - y - TITLE) / ROW), 0, lane.rows - 1);
      if (py >= y && py < y + lane.height) return nearest(group, lane, px, row);
      y += lane.height;
    }
  }
  return null;
}

function nearest(group, lane, px, wanted) {
  let best = null;
  for (const { item, index, row } of visible(lane)) {
    if (row !== wanted) continue;
    const distance = Math.max(x(item.s) - px, px - x(item.e ?? item.s), 0);
    if (distance < 10 && (!best || distance <= best.distance)) best = { group, index, distance };
  }
  return best;
}

let drag = null;

function press(event) {
  const { offsetX: px, offsetY: py } = event;
  box.setPointerCapture(event.pointerId);
  drag = { px, py, from: state.from, to: state.to, overview: py < OVERVIEW, ruler: py < OVERVIEW + RULER, moved: false };
  if (drag.overview) centre(px);
  else if (drag.ruler) go(time(px));
}

function move(event) {
  if (!drag) return;
  const px = event.clientX - box.getBoundingClientRect().left;
  if (Math.abs(px - drag.px) > 4) drag.moved = true;
  if (!drag.moved) return;
  if (drag.overview) centre(px);
  else if (drag.ruler || drag.to - drag.from >= whole() - 1) go(time(clamp(px, 0, width)));
  else {
    const shift = ((drag.px - px) / width) * (drag.to - drag.from);
    look(drag.from + shift, drag.to + shift);
  }
}

function release() {
  if (drag && !drag.moved && !drag.ruler) {
    const found = hit(drag.px, drag.py);
    const at = time(drag.px);
    if (found) {
      if (groups.length > 1) state.showsOther = found.group === groups[1];
      choose(found.index);
    } else go(at);
  }
  drag = null;
}

function centre(px) {
  const size = state.to - state.from;
  const at = (clamp(px, 0, width) / width) * whole();
  if (size >= whole() - 1) go(at);
  else look(at - size / 2, at + size / 2);
}

function wheel(event) {
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    zoom(Math.exp(clamp(event.deltaY, -80, 80) / 200), time(event.clientX - box.getBoundingClientRect().left));
  } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    event.preventDefault();
    const shift = (sideways / width) * (state.to - state.from);
    look(state.from + shift, state.to + shift);
  }
}

/** Connect the picture to the page. */
export function startLanes() {
  box.addEventListener("pointerdown", press);
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", release);
  box.addEventListener("pointercancel", () => (drag = null));
  box.addEventListener("wheel", wheel, { passive: false });
  new ResizeObserver(draw).observe(box);
  onChange((names) => {
    if (names.has("call")) {
      const { call } = state;
      groups = [groupOf(call, call.id ? `Call ${call.id}` : "This call")];
      if (call.against) groups.push(groupOf(call.against, `Beside it: ${call.against.id ? `call ${call.against.id}` : "the other call"}`));
      byId("lanes").setAttribute("aria-valuemax", String(Math.round(call.duration / 100) / 10));
    }
    if (names.size === 1 && names.has("at")) drawTop();
    else draw();
  });
}
