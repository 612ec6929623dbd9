// Shows what the address says. `data/index.js` sets `dashboard`, each series' file its document.
const TITLE = document.title;
let dashboard = null;
let shown = {}; // the series on the page, and its range

function render() {
  const { view, series = "", range: asked, ...filters } = state();
  const range = RANGES.some(([length]) => length === asked) ? asked : "";
  const chosenTab = view === "regressions" ? view : "benchmarks";
  for (const name of ["benchmarks", "regressions"]) {
    const selected = name === chosenTab;
    const tab = document.getElementById(`tab-${name}`);
    tab.href = address({ view: name === "regressions" && name, series: "", range: "" });
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
    place[name].hidden = !selected || series !== "";
  }
  place.filters.hidden = series !== "";
  place.series.hidden = series === "";
  document.title = TITLE;
  showLists(filters, series ? "" : chosenTab);
  if (series) showSeries(series, range);
  moveFocus(series, range);
  shown = { series, range };
}

// To what the reader chose last: the series, its range, and back to where it was opened.
function moveFocus(series, range) {
  if (series && series !== shown.series) {
    document.getElementById("series-title").focus();
    scrollTo(0, 0);
  } else if (series && range !== shown.range) {
    document.querySelector(".ranges [aria-current]")?.focus();
  } else if (!series && shown.series) {
    const link = `[role=tabpanel]:not([hidden]) [data-id="${CSS.escape(shown.series)}"]`;
    document.querySelector(link)?.focus();
  }
}

// Arrows, Home and End move between tabs (ARIA Authoring Practices, "Tabs").
function moveBetweenTabs(event) {
  const tabs = [...event.currentTarget.children];
  const at = tabs.indexOf(document.activeElement);
  const to = {
    ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1,
    " ": at,
  }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  const tab = tabs[to % tabs.length];
  tab.click();
  tab.focus();
}

function start() {
  if (!dashboard) {
    const text = "data/index.js cannot be read; build the dashboard again";
    document.querySelector("main").append(element("p", { class: "problem" }, text));
    return;
  }
  fillFilters();
  document.querySelector("[role=tablist]").addEventListener("keydown", moveBetweenTabs);
  addEventListener("hashchange", render);
  dark.addEventListener("change", () => state().series && render());
  render();
}
