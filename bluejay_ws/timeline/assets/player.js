// Playing: the place moves with time; where the caller's sound was kept, it is heard.

import { byId, bytes, clock } from "./util.js";
import { change, go, onChange, state } from "./state.js";

let began = null; // { place, when }: the reader's place and the clock's time when playing began
let audio = null; // made by the first play: browsers allow no sound before
let sources = [];
let runs = null;

/** The sample that a mu-law byte stands for. */
function sample(byte) {
  const value = ~byte & 0xff;
  const magnitude = (((value & 15) << 3) + 132) << ((value >> 4) & 7);
  return (value & 0x80 ? 132 - magnitude : magnitude - 132) / 32768;
}

function decode(sound) {
  const table = Float32Array.from({ length: 256 }, (_, byte) => sample(byte));
  const made = [];
  for (const name of ["caller", "agent"]) {
    for (const run of sound[name]) {
      if (!run.sound) continue;
      const data = bytes(run.sound);
      const buffer = audio.createBuffer(1, data.length, sound.rate);
      const samples = buffer.getChannelData(0);
      for (let at = 0; at < data.length; at += 1) samples[at] = table[data[at]];
      made.push({ name, start: run.start, buffer });
    }
  }
  return made;
}

const hasSound = () => ["caller", "agent"].some((name) => state.call?.sound?.[name].some((run) => run.sound));
const speed = () => Number(byId("speed").value);
const wanted = (name) => byId(`mute-${name}`).querySelector("input").checked;

function startSound() {
  if (!hasSound()) return;
  audio ??= new AudioContext();
  runs ??= decode(state.call.sound);
  for (const run of runs) {
    const offset = (state.at - run.start) / 1000;
    if (offset >= run.buffer.duration || !wanted(run.name)) continue;
    const source = new AudioBufferSourceNode(audio, { buffer: run.buffer, playbackRate: speed() });
    source.connect(audio.destination);
    source.start(audio.currentTime + Math.max(0, -offset) / speed(), Math.max(0, offset));
    sources.push(source);
  }
}

function stopSound() {
  for (const source of sources) source.stop();
  sources = [];
}

function tick(now) {
  if (!began) return;
  const at = began.place + (now - began.when) * speed();
  if (at >= state.call.duration) {
    go(state.call.duration);
    stop();
    return;
  }
  began.last = at;
  go(at);
  requestAnimationFrame(tick);
}

function start() {
  if (state.at >= state.call.duration - 50) change({ at: 0 });
  began = { place: state.at, when: performance.now(), last: state.at };
  state.plays = true;
  startSound();
  requestAnimationFrame(tick);
  show();
}

function stop() {
  began = null;
  state.plays = false;
  stopSound();
  show();
}

function show() {
  byId("play").textContent = began ? "❚❚" : "▶";
  byId("play").setAttribute("aria-label", began ? "Stop (space)" : "Play (space)");
}

/** Play, or stop. */
export function toggle() {
  if (began) stop();
  else start();
}

function again() {
  if (!began) return;
  stop();
  start();
}

/** Connect the player to the page. */
export function startPlayer() {
  byId("play").addEventListener("click", toggle);
  for (const id of ["speed", "mute-caller", "mute-agent"]) byId(id).addEventListener("change", again);
  onChange((names) => {
    if (names.has("call")) {
      runs = null;
      for (const name of ["caller", "agent"]) byId(`mute-${name}`).hidden = !hasSound();
    }
    if (!names.has("at") && !names.has("call")) return;
    byId("clock").textContent = `${clock(state.at)} / ${clock(state.call.duration)}`;
    if (began && Math.abs(state.at - began.last) > 1) again(); // the reader went elsewhere
  });
}
