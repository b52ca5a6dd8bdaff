// Small helpers that every other module uses.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with text in it. Text only: nothing of a report is ever parsed as HTML. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Milliseconds as a clock shows them: 1:05.3. */
export function clock(ms) {
  const tenths = Math.round(Math.abs(ms) / 100);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${ms < 0 ? "−" : ""}${minutes}:${rest}`;
}

/** A length of time in words: 0.4 s, 240 ms. */
export const length = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The index of the first entry of an ordered list for which the test holds. */
export function firstIndex(list, test) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The bytes in base64 text. */
export const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

const SHARE = 8; // milliseconds of a frame: what is left is drawn in the next one, so that no key waits
const undrawn = new Set();
let asked = false;

function ask() {
  if (!asked) requestAnimationFrame(drawSome);
  asked = true;
}

function drawSome() {
  const until = performance.now() + SHARE;
  asked = false;
  for (const work of undrawn) {
    undrawn.delete(work);
    work();
    if (performance.now() > until) break;
  }
  if (undrawn.size) ask();
}

/** Run something at most once for each frame that the browser paints. */
export function oncePerFrame(work) {
  return () => {
    undrawn.add(work);
    ask();
  };
}

/** A colour of the page's style, by the name of its variable. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["back", "card", "line", "text", "dim", "focus", "caller", "agent", "tool", "event", "wait", "bad", "shade"].map(
      (name) => [name, style.getPropertyValue(`--${name}`).trim()],
    ),
  );
}

/** Make a canvas as sharp as the screen, and return its context, ready to be drawn on in CSS pixels. */
export function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** What an event's metadata says, the library's own notes among it. */
export function notes(item) {
  const facts = item.f.metadata;
  if (!facts || typeof facts !== "object") return {};
  return { ...(typeof facts.bluejay_ws === "object" ? facts.bluejay_ws : {}), ...facts };
}

/** How long an item took, in milliseconds: as its metadata notes it under this name, else from its beginning to its end. */
export function lasted(item, name = "") {
  const noted = notes(item)[name];
  return Number.isFinite(noted) ? noted : (item.e ?? item.s) - item.s;
}
