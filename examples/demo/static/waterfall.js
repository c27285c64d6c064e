// Draws the calls of one request, or the visits of a crowd, as an SVG on a shared time scale.
"use strict";

const CRITICAL_PATH_MS = Number(document.body.dataset.criticalPathMs);
const SCALE_MS = Number(document.body.dataset.sumMs) + 40;
const SERVICES = [...document.querySelectorAll(".services li")].map((item) => item.className);

function element(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The critical path is found backwards: from the call that ended last to the one that ended
// just before it began, and so on to the first. Where it is known which calls were needed, only
// those count.
function criticalPath(calls) {
  const path = [];
  let candidates = calls;
  while (candidates.length) {
    const last = candidates.reduce((a, b) => (b.end_ms > a.end_ms ? b : a));
    path.push(last);
    candidates = last.depends_on
      ? calls.filter((call) => last.depends_on.includes(call.service))
      : calls.filter((call) => call.end_ms <= last.start_ms);
  }
  return path.reverse();
}

function chart(container, height, left, endMs, label) {
  const width = Math.max(container.clientWidth, 240);
  const scaleMs = Math.max(SCALE_MS, endMs * 1.05);
  // The room on the right is for the label of a bar that ends at the end of the scale.
  const right = left > 100 ? 56 : 12;
  const x = (ms) => left + (ms / scaleMs) * (width - left - right);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  const step = [100, 200, 500, 1000, 2000, 5000].find((ms) => scaleMs / ms < 7) ?? 10000;
  for (let ms = 0; ms <= scaleMs; ms += step) {
    svg.append(element("line", { class: "grid", x1: x(ms), x2: x(ms), y1: 18, y2: height - 16 }));
    const anchor = ms === 0 ? "start" : "middle";
    svg.append(element("text", { x: x(ms), y: height - 3, "text-anchor": anchor }, ms === 0 ? "0 ms" : ms));
  }
  const best = x(CRITICAL_PATH_MS);
  svg.append(element("line", { class: "best", x1: best, x2: best, y1: 18, y2: height - 16 }));
  svg.append(element("text", { class: "best", x: best, y: 12, "text-anchor": "middle" }, `best ${CRITICAL_PATH_MS}`));
  return { svg, x };
}

function drawWaterfall(container, unsorted) {
  // Every chart has its rows in the same order, so that charts can be compared at a glance.
  const calls = unsorted.toSorted((a, b) => SERVICES.indexOf(a.service) - SERVICES.indexOf(b.service));
  const narrow = container.clientWidth < 420;
  const rowHeight = narrow ? 34 : 28;
  const left = narrow ? 2 : 118;
  const endMs = Math.max(...calls.map((call) => call.end_ms));
  const spans = calls.map((c) => `${c.service} from ${Math.round(c.start_ms)} to ${Math.round(c.end_ms)} ms`);
  const { svg, x } = chart(container, 22 + rowHeight * calls.length + 18, left, endMs, spans.join(", "));
  const path = criticalPath(calls);
  const barTop = (call) => 22 + calls.indexOf(call) * rowHeight + (narrow ? 15 : 5);
  const barHeight = narrow ? 15 : 18;

  path.slice(1).forEach((call, index) => {
    const before = path[index];
    const middle = barTop(before) + barHeight / 2;
    const points = `M ${x(before.end_ms)} ${middle} h 5 V ${barTop(call)}`;
    svg.append(element("path", { class: "link", d: points }));
  });
  for (const call of calls) {
    const group = element("g", { class: call.service });
    const wide = Math.max(x(call.end_ms) - x(call.start_ms), 2);
    const top = barTop(call);
    const kind = path.includes(call) ? "bar" : "bar slack";
    group.append(element("rect", { class: kind, x: x(call.start_ms), y: top, width: wide, height: barHeight, rx: 4 }));
    const waiting = call.phases?.find(([name]) => name === "head");
    if (waiting) {
      const [, begin, end] = waiting;
      const part = { class: "waiting", x: x(begin), y: top, width: Math.max(x(end) - x(begin), 0), height: barHeight };
      group.append(element("rect", part));
      const words = call.phases.map(([name, from, to]) => `${name} ${(to - from).toFixed(1)} ms`);
      group.append(element("title", {}, [`${call.service}: ${words.join(", ")}`, ...call.depends_on.map((name) => `needed ${name}`)].join("; ")));
    }
    const label = { x: 0, y: top + 13 };
    if (narrow) {
      // Above the bar: to the right from its start, or to the left from its end.
      const late = x(call.start_ms) > container.clientWidth / 2;
      Object.assign(label, { x: x(late ? call.end_ms : call.start_ms), y: top - 3, "text-anchor": late ? "end" : "start" });
    }
    const took = `${Math.round(call.end_ms - call.start_ms)} ms`;
    group.append(element("text", { class: "name", ...label }, narrow ? `${call.service} ${took}` : call.service));
    if (!narrow) group.append(element("text", { x: x(call.end_ms) + 9, y: top + 13 }, took));
    svg.append(group);
  }
  container.replaceChildren(svg);
}

function drawVisits(container, visits) {
  const narrow = container.clientWidth < 420;
  const endMs = Math.max(...visits.map((visit) => visit.end_ms));
  const label = `${visits.length} visits, the last answered after ${Math.round(endMs)} ms`;
  const { svg, x } = chart(container, 24 + visits.length * 3 + 20, narrow ? 2 : 118, endMs, label);
  visits.toSorted((a, b) => a.end_ms - b.end_ms).forEach((visit, index) => {
    const y = 24 + index * 3;
    svg.append(element("line", { class: "visit", x1: x(visit.start_ms), x2: x(visit.end_ms), y1: y, y2: y }));
  });
  container.append(svg);
}
