"use strict";
// Sorting, filtering, and handing the figures to Plotly. The tables are complete without it.
const figures = JSON.parse(document.getElementById("figures").textContent);
const form = document.getElementById("filters");
const dark = matchMedia("(prefers-color-scheme: dark)");

function sort(button) {
  const header = button.parentElement, table = header.closest("table"), body = table.tBodies[0];
  const place = header.cellIndex, down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[place].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");  // what was not measured stays below
    const order = header.classList.contains("number") ? x - y : x.localeCompare(y);
    return down ? -order : order;
  };
  body.append(...[...body.rows].sort(compare));
}

function matches(row, board) {
  const wanted = Object.fromEntries(new FormData(form));
  const own = { "data set": board.dataset.dataset, protocol: board.dataset.protocol, device: row.dataset.device, preset: row.dataset.preset };
  return Object.entries(own).every(([name, value]) => !wanted[name] || wanted[name] === value)
    && row.dataset.text.toLowerCase().includes(wanted.text.trim().toLowerCase());
}

function filter() {
  let shown = 0;
  for (const board of document.querySelectorAll(".board")) {
    const kept = new Set();
    for (const row of board.querySelectorAll("tbody tr[data-row]")) {
      row.hidden = !matches(row, board);
      if (!row.hidden) kept.add(Number(row.dataset.row));
    }
    board.hidden = kept.size === 0;
    shown += kept.size;
    if (!board.hidden) for (const chart of board.querySelectorAll(".chart")) draw(chart, kept);
  }
  document.getElementById("shown").textContent = `${shown} rows`;
}

// A trace whose points name rows keeps those of the rows that are shown.
function kept(trace, rows) {
  if (!trace.customdata || !rows) return trace;
  const places = trace.customdata.map((row, place) => (row === null || rows.has(row) ? place : -1)).filter((place) => place >= 0);
  const some = (values) => (Array.isArray(values) ? places.map((place) => values[place]) : values);
  const marker = trace.marker && { ...trace.marker, color: some(trace.marker.color), symbol: some(trace.marker.symbol) };
  const bars = trace.error_x && { ...trace.error_x, array: some(trace.error_x.array), arrayminus: some(trace.error_x.arrayminus) };
  return { ...trace, x: some(trace.x), y: some(trace.y), text: some(trace.text), hovertext: some(trace.hovertext), customdata: some(trace.customdata), marker, error_x: bars };
}

function draw(element, rows) {
  const figure = figures[element.dataset.chart], style = getComputedStyle(document.documentElement);
  const [ink, faint, line] = ["--ink", "--faint", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = (own) => ({ ...own, gridcolor: line, zerolinecolor: line, linecolor: line });
  const layout = {
    ...figure.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 },
    xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis), legend: { orientation: "h", y: -0.2 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: faint, activecolor: ink },
  };
  const outlined = (trace) => ({ ...trace, marker: { ...trace.marker, line: { color: faint, width: 1 } } });
  const coloured = (trace) => outlined(trace.error_x ? { ...trace, error_x: { ...trace.error_x, color: faint } } : trace);
  const traces = figure.data.map((trace) => coloured(kept(trace, rows)));
  element.parentElement.hidden = traces.every((trace) => trace.x.length === 0);
  // Plotly offers to upload a figure; nothing leaves this page.
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "" };
  if (!element.parentElement.hidden) Plotly.react(element, traces, layout, config);
}

for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sort(button));
for (const event of ["input", "change"]) form.addEventListener(event, filter);  // not every browser fires both
form.addEventListener("submit", (event) => event.preventDefault());
function all() {
  filter();
  for (const chart of document.querySelectorAll("#speed .chart")) draw(chart, null);
}
dark.addEventListener("change", all);
matchMedia("print").addEventListener("change", all);  // paper is light, and of another width
addEventListener("beforeprint", () => {
  for (const card of document.querySelectorAll("#datasets details, #algorithms details")) card.open = true;
});
all();
