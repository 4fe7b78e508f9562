"use strict";
// Runs before the page is drawn, so that it never shows in the wrong theme first.
const KEY = "jobq-theme";
try {
  const chosen = localStorage.getItem(KEY);
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* storage is forbidden here: the system's theme it is */ }

const EVERY = 2000, LONGEST = 15000; // the same as htmx's defaultTimeout
const $ = (id) => document.getElementById(id);
const main = () => $("main");
let skew = 0; // of this clock against the server's, in ms
let chart = null;
let acting = 0; // until when an action may be without its answer, in ms

addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("#theme, [data-copy]")) button.hidden = false;
  $("theme").addEventListener("click", toggleTheme);
  arrived();
  setInterval(tick, EVERY);
  setInterval(countOn, 1000);
});
document.addEventListener("visibilitychange", tick);

// Keeping the page live

function tick() {
  const page = main();
  // What an action changed must be shown where somebody points: nothing is held still before its answer is there.
  if (document.hidden || !page.hasAttribute("data-live") || Date.now() < acting) return;
  for (const part of page.querySelectorAll("[data-calm]")) part.toggleAttribute("data-frozen", inUse(part));
  htmx.trigger(page, "tick");
}

/** What somebody reads, points at or fills in must not change under them. */
function inUse(part) {
  const focused = document.activeElement, selection = getSelection();
  const typing = focused.matches("input, select, textarea") || part.dataset.calm === "hover";
  return (part.dataset.calm === "hover" && part.matches(":hover"))
    || (typing && part.contains(focused))
    || part.querySelector(".confirm[open]") !== null
    || (!selection.isCollapsed && selection.containsNode(part, true));
}

document.addEventListener("submit", () => {
  acting = Date.now() + LONGEST;
  for (const part of document.querySelectorAll("[data-frozen]")) part.removeAttribute("data-frozen");
  for (const open of document.querySelectorAll(".confirm[open]")) open.open = false;
}, true);

document.addEventListener("htmx:before:swap", (event) => {
  const task = event.detail.tasks.find((one) => one.type === "main");
  if (task) updateRows(task.fragment);
});
document.addEventListener("htmx:after:swap", arrived);
document.addEventListener("htmx:error", () => {
  acting = 0;
  say("not live: no answer", true);
});
document.addEventListener("htmx:response:error", (event) => {
  acting = 0;
  const { response, text, sourceElement } = event.detail.ctx;
  if (response.status === 401) location.reload();
  else if (sourceElement === main()) say(`not live: ${response.status}`, true);
  else toast(new DOMParser().parseFromString(text, "text/html").getElementById("problem")?.textContent ?? "That failed.");
});

function arrived() {
  acting = 0;
  const page = main(), told = $("said");
  if (page.dataset.now) skew = Number(page.dataset.now) - Date.now();
  if (told) {
    toast(told.textContent);
    told.remove();
    const url = new URL(location.href);
    url.searchParams.delete("said");
    history.replaceState(null, "", url);
    setTimeout(tick, 500); // what was asked for may have happened by then
  }
  if (!page.hasAttribute("data-live")) say("");
  else say(page.querySelector("[data-frozen]") ? "live, held still" : "live");
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  draw();
}

/** Rows stay where they are: what is known anew is written into them, and what came is counted. */
function updateRows(fragment) {
  const shown = document.querySelector("[data-rows]"), fresh = fragment.querySelector("[data-rows]");
  if (!shown || !fresh || !shown.hasAttribute("data-first")) return;
  const now = new Map([...fresh.rows].map((row) => [row.id, row]));
  const news = [...now.keys()].filter((id) => !$(id)).length;
  const link = $("news").firstElementChild;
  link.hidden = !news;
  link.textContent = `${news}${news && news === now.size ? " or more" : ""} new: show`;
  if ($("job-table").hasAttribute("data-frozen")) return;
  let below = true; // the page's end: rows that newer ones pushed off it are still in the list
  for (const row of [...shown.rows].reverse()) {
    const fresher = now.get(row.id);
    below &&= !fresher;
    row.classList.toggle("gone", !fresher && !below);
    if (fresher && fresher.innerHTML !== row.innerHTML) row.replaceChildren(...fresher.childNodes);
  }
}

// Small things

function say(text, bad = false) {
  const live = $("live");
  live.hidden = !text;
  live.classList.toggle("bad", bad);
  if (live.textContent !== text) live.textContent = text;
}

function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").textContent = ""; }, 6000);
}

/** The same words as show.age. */
function age(seconds) {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([n]) => seconds >= 2 * n || n === 1);
  return `${Math.floor(seconds / size)} ${unit}`;
}

function countOn() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-at]")) {
    const seconds = (Date.now() + skew - Number(time.dataset.at)) / 1000;
    const text = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${age(seconds)} ago` : `in ${age(-seconds)}`;
    if (time.textContent !== text) time.textContent = text;
  }
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* then for this page only */ }
  chart?.destroy();
  chart = null;
  draw();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = $(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    toast("Copied.");
  } catch { // plain http to another host has no clipboard
    getSelection().selectAllChildren(source);
    toast("Selected: copy it with the keyboard.");
  }
});

// The chart of rates

const SLOT = 10; // seconds

function draw() {
  const holder = $("chart");
  if (!holder || !window.uPlot) return;
  const { from, points } = $("rates").dataset, counts = JSON.parse(points);
  const ends = counts[0].map((_, n) => Number(from) + SLOT * (n + 1));
  const data = [ends, ...counts.map((column) => column.map((n) => n / SLOT))];
  if (chart) chart.setData(data);
  else chart = new uPlot(options(holder), data, holder);
}

function options(holder) {
  const colour = (selector) => getComputedStyle(document.querySelector(selector)).color;
  const text = getComputedStyle(document.body).color, grid = { stroke: colour(".legend"), width: 0.25 };
  const axis = { stroke: text, grid, ticks: grid, font: "12px system-ui, sans-serif" };
  const clock = (seconds, length = 5) => new Date(1000 * seconds).toISOString().slice(11, 11 + length);
  const short = new Intl.NumberFormat("en", { notation: "compact" });
  const pointed = (plot) => {
    const n = plot.cursor.idx, [at, ...rates] = plot.data.map((column) => column[n]);
    $("at").textContent = at ? `${clock(at, 8)} UTC: ${["in", "done", "failed"].map((word, i) => `${word} ${rates[i]}`).join(", ")}` : "UTC";
  };
  const line = (name) => ({ label: name, stroke: colour(`.legend .${name}`), width: 2, points: { show: false } });
  new ResizeObserver(() => chart?.setSize({ width: holder.clientWidth, height: 180 })).observe(holder);
  return {
    width: holder.clientWidth, height: 180, padding: [10, 20, 0, 0], legend: { show: false },
    cursor: { drag: { x: false } }, hooks: { setCursor: [pointed] },
    scales: {
      x: { range: (plot, low, high) => [low, high] },
      y: { range: (plot, low, high) => [0, Math.max(1, 1.1 * high)] },
    },
    axes: [{ ...axis, size: 30, space: 90, incrs: [60, 120, 300, 600, 900], values: (plot, splits) => splits.map((at) => clock(at)) }, { ...axis, size: 44, values: (plot, splits) => splits.map((n) => short.format(n)) }],
    series: [{}, line("in"), line("done"), line("failed")],
  };
}
