// How long the caller waited: one bar for each answer, against the limit, with the median and the 95th percentile.

import { byId, clamp, colours, length, oncePerFrame, prepare } from "./util.js";
import { choose, onChange, state } from "./state.js";

const HEIGHT = 110;
const BOTTOM = 8;
const TOP = 18;

const canvas = byId("latency");
const draw = oncePerFrame(drawLatency);

/** Draw at once, in the colours of now. */
export function drawLatency() {
  const facts = state.call?.latency;
  if (!facts?.values.length) return;
  const palette = colours();
  const width = canvas.clientWidth;
  const pen = prepare(canvas, width, HEIGHT);
  const drawn = bars(facts.values, width);
  const most = Math.max(facts.threshold * 1.2, ...drawn.map(([, value]) => value));
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - TOP);
  const wide = width / facts.values.length;
  drawn.forEach(([left, value]) => {
    pen.fillStyle = value > facts.threshold ? palette.bad : palette.wait;
    pen.fillRect(left + (wide > 6 ? 2 : 0), y(value), Math.max(1, Math.min(wide, 60) - (wide > 6 ? 4 : 0)), HEIGHT - BOTTOM - y(value));
  });
  pen.font = '12px system-ui, "Liberation Sans", sans-serif';
  line(pen, width, y(facts.threshold), palette.bad, [6, 4], `limit ${length(facts.threshold)}`, palette, 0);
  line(pen, width, y(facts.p50), palette.dim, [2, 3], `p50 ${length(facts.p50)}`, palette, 1);
  line(pen, width, y(facts.p95), palette.dim, [2, 3], `p95 ${length(facts.p95)}`, palette, 2);
}

/** The bars to draw: no more than the picture has pixels, the longest wait standing for those beside it. */
function bars(values, width) {
  const each = Math.max(1, Math.ceil(values.length / Math.max(1, width)));
  const made = [];
  for (let at = 0; at < values.length; at += each) {
    let most = 0;
    for (let inner = at; inner < Math.min(values.length, at + each); inner += 1) most = Math.max(most, values[inner]);
    made.push([(at / values.length) * width, most]);
  }
  return made;
}

function line(pen, width, y, colour, dash, text, palette, place) {
  pen.strokeStyle = colour;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(0, Math.round(y) + 0.5);
  pen.lineTo(width, Math.round(y) + 0.5);
  pen.stroke();
  pen.setLineDash([]);
  const right = width - 6 - place * Math.min(96, width / 3.5);
  const size = pen.measureText(text).width;
  pen.fillStyle = palette.card;
  pen.globalAlpha = 0.9;
  pen.fillRect(right - size - 3, Math.max(1, y - 16), size + 6, 15);
  pen.globalAlpha = 1;
  pen.fillStyle = palette.text;
  pen.fillText(text, right - size, Math.max(13, y - 4));
}

function show() {
  const facts = state.call.latency;
  byId("latency-part").hidden = !facts.values.length;
  if (!facts.values.length) return;
  const late = facts.values.filter((value) => value > facts.threshold).length;
  const text = `${facts.values.length} answer${facts.values.length === 1 ? "" : "s"}, ${late} above ${length(facts.threshold)}; p50 ${length(facts.p50)}, p95 ${length(facts.p95)}`;
  byId("latency-text").textContent = text;
  canvas.setAttribute("aria-label", text);
  draw();
}

/** Connect the bars to the page. */
export function startLatency() {
  canvas.addEventListener("click", (event) => {
    const { values } = state.call.latency;
    const number = clamp(Math.floor((event.offsetX / canvas.clientWidth) * values.length), 0, values.length - 1);
    const waits = state.call.items.flatMap((item, index) => (item.k === "latency" ? [index] : []));
    if (waits.length === values.length) choose(waits[number]);
  });
  new ResizeObserver(draw).observe(canvas);
  onChange((names) => {
    if (names.has("call")) show();
    else if (names.has("theme")) draw();
  });
}
