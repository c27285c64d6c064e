// Runs the views on request, one at a time so that they do not slow each other down.
"use strict";

const cards = [...document.querySelectorAll(".card")];
const controls = [...document.querySelectorAll("button")];
const status = document.querySelector("#status");
const VISITORS = 20;
const shown = new Map();

async function fetchJSON(url) {
  const response = await fetch(url, { cache: "no-store" });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.json();
}

function span(text, kind) {
  const node = document.createElement("span");
  node.textContent = text;
  node.className = kind;
  return node;
}

function showTime(card, result) {
  const milliseconds = Math.round(result.duration_ms);
  const over = milliseconds - CRITICAL_PATH_MS;
  const threads = new Set(result.calls.map((call) => call.thread)).size;
  const value = document.createElement("b");
  value.textContent = `${milliseconds} ms`;
  card.querySelector(".time").replaceChildren(
    value,
    span(over <= CRITICAL_PATH_MS * 0.25 ? "close to the best" : `${over} ms over the best`, over <= CRITICAL_PATH_MS * 0.25 ? "good" : "bad"),
    span(threads === 1 ? "1 thread" : `${threads} threads`, ""),
  );
}

function draw(card) {
  const { calls, crowd } = shown.get(card) ?? {};
  if (calls) drawWaterfall(card.querySelector(".waterfall"), calls);
  if (crowd) {
    const visits = card.querySelector(".visits");
    visits.hidden = false;
    const times = crowd.visits.map((visit) => visit.end_ms - visit.start_ms).sort((a, b) => a - b);
    const words = document.createElement("p");
    const number = document.createElement("strong");
    number.textContent = crowd.threads === 1 ? "1 thread" : `${crowd.threads} threads`;
    words.append(`${times.length} visitors at once: median ${Math.round(times[times.length >> 1])} ms, slowest ${Math.round(times.at(-1))} ms, `, number);
    visits.replaceChildren(words);
    drawVisits(visits, crowd.visits);
  }
}

async function run(card) {
  const result = await fetchJSON(`/${card.dataset.view}/ada`);
  showTime(card, result);
  shown.set(card, { ...shown.get(card), calls: result.calls });
}

async function crowd(card) {
  const result = await fetchJSON(`/crowd/${card.dataset.view}?visitors=${VISITORS}`);
  shown.set(card, { ...shown.get(card), crowd: result });
}

async function perform(action, chosen) {
  controls.forEach((control) => (control.disabled = true));
  for (const card of chosen) {
    status.textContent = `Running ${card.querySelector("h2").firstChild.textContent.trim()} …`;
    card.dataset.busy = "";
    card.querySelector(".failure")?.remove();
    try {
      await action(card);
      draw(card);
    } catch (error) {
      const words = document.createElement("p");
      words.className = "failure";
      words.textContent = `Failed: ${error.message}. The server's log says why.`;
      card.querySelector(".words").append(words);
    }
    delete card.dataset.busy;
  }
  status.textContent = "";
  controls.forEach((control) => (control.disabled = false));
}

document.querySelector("#run-all").addEventListener("click", () => perform(run, cards));
document.querySelector("#crowd-all").addEventListener("click", () => perform(crowd, cards));
for (const card of cards) {
  card.querySelector(".run").addEventListener("click", () => perform(run, [card]));
  card.querySelector(".crowd").addEventListener("click", () => perform(crowd, [card]));
}
let redraw;
window.addEventListener("resize", () => {
  cancelAnimationFrame(redraw);
  redraw = requestAnimationFrame(() => cards.forEach(draw));
});

// The first visit to a view connects and starts threads. It is not shown, because what differs
// between the views is how every later visit goes. `#crowd` in the address runs the crowds too.
async function start() {
  controls.forEach((control) => (control.disabled = true));
  status.textContent = "Warming up …";
  await Promise.allSettled(cards.map((card) => fetchJSON(`/${card.dataset.view}/ada`)));
  await perform(run, cards);
  if (location.hash === "#crowd") await perform(crowd, cards);
}
start();
