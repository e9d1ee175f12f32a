"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("panel");
let openedFrom = null;

/** An element with properties and children; text is only ever set as text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The episode `number` of run `run` as an object. */
function episodeOf(run, number) {
  const row = data.runs[run].episodes[number];
  return Object.fromEntries(data.columns.map((name, position) => [name, row[position]]));
}

// Sorting: numbers by data-value, text by its content; rows without a value, and averages, stay at the end.

function valueOf(cell, kind) {
  if (kind === "text") return cell.textContent.trim();
  const text = cell.dataset.value;
  return text === undefined || text === "" ? null : Number(text);
}

function compareValues(a, b) {
  return typeof a === "string" ? a.localeCompare(b, "en", {numeric: true}) : a - b;
}

function sortBy(button) {
  const header = button.closest("th");
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...body.rows].map((row, position) => ({
    row, position, last: "last" in row.dataset, value: valueOf(row.cells[column], button.dataset.kind)}));
  rows.sort((a, b) => {
    if (a.last !== b.last) return a.last ? 1 : -1;
    if ((a.value === null) !== (b.value === null)) return a.value === null ? 1 : -1;
    const order = a.value === null ? 0 : compareValues(a.value, b.value);
    return (descending ? -order : order) || a.position - b.position;
  });
  body.append(...rows.map((item) => item.row));
}

for (const button of document.querySelectorAll(".sort")) {
  button.closest("th").setAttribute("aria-sort", "none");
  button.addEventListener("click", () => sortBy(button));
}

// Filtering: rows of tasks by text and suite; cells by outcome.

const filterText = document.getElementById("filter-text");
const filterSuite = document.getElementById("filter-suite");
const filterOutcome = document.getElementById("filter-outcome");

function applyFilter() {
  const words = filterText.value.toLowerCase().split(/\s+/).filter(Boolean);
  const outcome = filterOutcome.value;
  const shown = new Set();
  const all = new Set();
  for (const row of document.querySelectorAll("tr[data-task]")) {
    const fits = words.every((word) => row.dataset.text.includes(word)) &&
      (!filterSuite.value || row.dataset.suite === filterSuite.value);
    all.add(row.dataset.task);
    if (fits) shown.add(row.dataset.task);
    row.hidden = !fits;
  }
  for (const row of document.querySelectorAll(".grid tr[data-task]:not([hidden])")) {
    row.hidden = Boolean(outcome) && !row.querySelector(`.cell.${outcome}`);
  }
  for (const cell of document.querySelectorAll("button.cell")) {
    cell.classList.toggle("dim", Boolean(outcome) && !cell.classList.contains(outcome));
  }
  for (const grid of document.querySelectorAll(".grid")) {
    grid.closest(".scroll").hidden = !grid.querySelector("tbody tr:not([hidden])");
  }
  document.getElementById("filter-count").textContent = `${shown.size} of ${all.size} tasks`;
}

const filterForm = document.querySelector(".filter");
filterForm.addEventListener("input", applyFilter);
filterForm.addEventListener("submit", (event) => event.preventDefault());
filterForm.addEventListener("reset", () => setTimeout(applyFilter));

// The panel: one episode, or the same episode of two runs.

function showPanel(kind, ...children) {
  panel.className = kind;
  panel.replaceChildren(...children);
  panel.hidden = false;
  panel.scrollTop = 0;
  openedFrom.scrollIntoView({block: "nearest", inline: "nearest"});
}

function closePanel() {
  if (panel.hidden) return;
  panel.hidden = true;
  panel.replaceChildren();
  document.querySelectorAll("[aria-current]").forEach((cell) => cell.removeAttribute("aria-current"));
  if (openedFrom) openedFrom.focus();
}

function closeButton() {
  const button = make("button", {type: "button", textContent: "Close"});
  button.addEventListener("click", closePanel);
  return button;
}

function videoOf(episode) {
  if (!episode.video) return make("p", {textContent: "No video of this episode beside the report."});
  const video = make("video", {controls: true, muted: true, playsInline: true, preload: "metadata", src: episode.video});
  video.setAttribute("aria-label", `Video of ${episode.id}`);
  video.addEventListener("error", () => video.replaceWith(
    make("p", {textContent: `The video could not be played: ${decodeURIComponent(episode.video)}`})));
  return video;
}

function factsOf(episode) {
  const text = (number) => number === null ? null : data.texts[number];
  const seconds = (phase) => episode[phase] === null ? null : `${episode[phase].toFixed(2)} s`;
  const facts = {
    outcome: `${data.glyphs[episode.outcome]} ${episode.outcome}`, instruction: text(episode.instruction),
    steps: episode.steps, "success step": episode.success_step, seed: episode.seed, attempt: episode.attempt,
    scene: episode.scene_sha, reset: seconds("reset"), physics: seconds("physics"), render: seconds("render"),
    policy: seconds("policy"),
  };
  const list = make("dl", {className: "facts"});
  for (const [name, value] of Object.entries(facts)) {
    if (value !== null && value !== "") {
      list.append(make("dt", {textContent: name}), make("dd", {textContent: String(value)}));
    }
  }
  return list;
}

/** What there is to see of an episode: video, facts, traceback. */
function viewOf(episode) {
  const parts = [factsOf(episode)];
  if (episode.outcome === "missing") parts.push(make("p", {textContent: "This episode was not run."}));
  else if (episode.outcome !== "error" || episode.video) parts.unshift(videoOf(episode));
  if (episode.traceback !== null) parts.unshift(make("pre", {textContent: data.texts[episode.traceback]}));
  return parts;
}

function openCell(cell) {
  const episode = episodeOf(Number(cell.closest(".grid").dataset.run), Number(cell.dataset.e));
  document.querySelectorAll("[aria-current]").forEach((other) => other.removeAttribute("aria-current"));
  cell.setAttribute("aria-current", "true");
  openedFrom = cell;
  const heading = make("h2", {textContent: episode.id});
  showPanel("single", make("div", {className: "buttons"}, closeButton()), heading, ...viewOf(episode));
  const video = panel.querySelector("video");
  if (video) video.play().catch(() => {});  // a browser may refuse to start by itself; the controls remain
}

function openPair(button, a, b, indices) {
  const episodes = [episodeOf(a, indices[0]), episodeOf(b, indices[1])];
  openedFrom = button;
  const sides = episodes.map((episode, side) => make("section", {},
    make("h3", {textContent: `${(side ? b : a) + 1}: ${data.runs[side ? b : a].name}`}), ...viewOf(episode)));
  const playBoth = make("button", {type: "button", textContent: "Play both from the start"});
  playBoth.addEventListener("click", () => panel.querySelectorAll("video").forEach((video) => {
    video.currentTime = 0;
    video.play().catch(() => {});
  }));
  showPanel("pair", make("div", {className: "buttons"}, closeButton(), playBoth),
    make("h2", {textContent: episodes[0].id}), make("div", {className: "sides"}, ...sides));
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanel();
});

// The grid: one stop of the Tab key, arrow keys inside.

const MOVES = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0]};

function moveInGrid(event) {
  const move = MOVES[event.key];
  const cell = event.target.closest("button.cell");
  if (!move || !cell) return;
  event.preventDefault();
  const place = cell.parentElement;
  const rows = [...place.closest("tbody").rows].filter((row) => !row.hidden);
  const row = rows[rows.indexOf(place.parentElement) + move[0]];
  const next = row && row.cells[place.cellIndex + move[1]]?.querySelector("button.cell");
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  if (!panel.hidden) openCell(next);
}

for (const grid of document.querySelectorAll(".grid")) {
  const first = grid.querySelector("button.cell");
  if (first) first.tabIndex = 0;
  grid.addEventListener("keydown", moveInGrid);
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell) openCell(cell);
  });
}

// Comparison of two runs: the tables stand in the page, the discordant episodes are listed here.

const pick = document.getElementById("compare-pair");

function discordantList(pair, indices, winner, loser) {
  const list = make("ul", {className: "discordant"});
  for (const both of indices) {
    const button = make("button", {type: "button", textContent: data.runs[pair.a].episodes[both[0]][0]});
    button.addEventListener("click", () => openPair(button, pair.a, pair.b, both));
    list.append(make("li", {}, button));
  }
  return [make("h3", {textContent: `${data.glyphs.success} ${winner} succeeded, ${data.glyphs.failure} ${loser} failed: ` +
    `${indices.length} episodes`}), list];
}

function showPair() {
  const chosen = Number(pick.value);
  document.querySelectorAll("article.pair").forEach((article, place) => { article.hidden = place !== chosen; });
  const pair = data.pairs[chosen];
  document.getElementById("discordant").replaceChildren(
    ...discordantList(pair, pair.only_a, "A", "B"), ...discordantList(pair, pair.only_b, "B", "A"));
}

if (pick) {
  pick.addEventListener("change", showPair);
  showPair();
}
applyFilter();
