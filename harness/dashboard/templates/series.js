// The view of one series: its chart, its changes, its latest results, where it was measured.
const LATEST = 30;
const RANGES = [["", "all"], ["365", "1 year"], ["90", "90 days"], ["30", "30 days"]];
const documents = {}; // of the series that were opened, by id
const scripts = {};

// Each script once; it works from a file:// address, where fetch does not.
function load(source) {
  scripts[source] ??= new Promise((resolve, reject) => {
    const script = element("script", { src: source });
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => {
      delete scripts[source];
      reject(new Error(`${source} cannot be read; reload, or build the dashboard again`));
    });
    document.head.append(script);
  });
  return scripts[source];
}

async function showSeries(id, range) {
  // Only what the index names is loaded.
  const entry = dashboard.series.find((one) => one.id === id);
  const back = element(
    "a", { class: "back", href: address({ series: "", range: "" }) },
    state().view === "regressions" ? "← Regressions" : "← Benchmarks",
  );
  const name = short(entry?.benchmark ?? "No such series");
  const title = element("h2", { id: "series-title", tabindex: -1 }, name);
  document.title = `${name} · ${TITLE}`;
  if (!entry) {
    place.series.replaceChildren(back, title, element("p", {}, "It is not in this history."));
    return;
  }
  const canvas = element("div", { id: "chart" });
  const chart = element("div", { role: "img", "aria-label": chartWords(entry) }, canvas);
  const latest = element("div");
  place.series.replaceChildren(
    back,
    element("div", { class: "title" }, title, statusMark(entry.status)),
    element("p", { class: "of" }, surroundings(entry)),
    tiles(entry), over(entry, range), chart, changesList(entry), latest, facts(entry),
  );
  try {
    await Promise.all([load(`data/${id}.js`), load("vega.js")]);
    if (!chart.isConnected) return; // somebody has gone on
    latest.replaceChildren(latestTable(entry, documents[id]));
    await drawChart(canvas, entry, documents[id], range);
  } catch (error) {
    chart.replaceChildren(element("p", { class: "problem" }, error.message));
  }
}

function tiles(entry) {
  const change = entry.changes.at(-1);
  const tile = (title, value, text) =>
    element(
      "div", {},
      element("dt", {}, title),
      element("dd", {}, element("b", {}, value), element("span", {}, text)),
    );
  return element(
    "dl", { class: "tiles" },
    tile("Last result", figure(entry.value, entry.metric), minute(entry.last)),
    tile("Present level", figure(entry.current, entry.metric), beside(entry)),
    change
      ? tile(
          "Last change", percent(change.before, change.after),
          `${change.worse ? "worse" : "better"}, ${date(change.time)}`,
        )
      : tile("Last change", "none", nothingFound(entry)),
    tile("Results", number(entry.count), `${date(entry.first)} to ${date(entry.last)}`),
  );
}

// The present level beside the best one: many small steps may add up.
function beside(entry) {
  const levels = [entry.current, ...entry.changes.map(({ before }) => before)];
  const best = (entry.better === "higher" ? Math.max : Math.min)(...levels);
  if (!entry.changes.length) return "median of all results";
  if (best === entry.current) return "the best so far";
  return `${percent(best, entry.current)} against the best, ${quantity(best, entry.metric)}`;
}

function nothingFound(entry) {
  return entry.status === TOO_FEW ? "too few results to tell" : "no change of level was found";
}

// What stands over the chart: the unit, and the ranges to choose from.
function over(entry, range) {
  const days = (entry.last - entry.first) / DAY;
  const ranges = RANGES.filter(([length]) => !length || length < days);
  const link = ([length, name]) => {
    const current = length === range && "true";
    return element("a", { href: address({ range: length }), "aria-current": current }, name);
  };
  const { name } = unitOf(entry.metric, entry.high);
  return element(
    "div", { class: "over" },
    element("span", {}, `${name}, ${entry.better} is better`),
    ranges.length > 1 &&
      element("nav", { class: "ranges", "aria-label": "Range" }, ranges.map(link)),
  );
}

function changesList(entry) {
  const item = (change, index) =>
    element(
      "li", {},
      element("div", {}, `${index + 1} · `, element("time", {}, date(change.time))),
      changeParts(entry, change),
    );
  return element(
    "div", {},
    element("h3", {}, "Changes of level"),
    entry.changes.length
      ? element("ol", { class: "changes own" }, entry.changes.map(item).reverse())
      : element("p", { class: "of" }, `${sentence(nothingFound(entry))}.`),
  );
}

function latestTable(entry, { times, values, places, commits }) {
  const first = Math.max(0, times.length - LATEST);
  const rows = times.slice(first).map((time, offset) =>
    element(
      "tr", {},
      element("td", {}, minute(time)),
      element("td", {}, quantity(values[first + offset], entry.metric)),
      element("td", {}, commitLine(commits[places[first + offset]])),
    ),
  );
  const title = "Latest results";
  const head = ["Measured", "Value", "Commit"].map((name) => element("th", { scope: "col" }, name));
  return element(
    "details", {}, element("summary", {}, title),
    element(
      "div", { class: "scroll", role: "region", tabindex: 0, "aria-label": title },
      element(
        "table", {},
        element("thead", {}, element("tr", {}, head)),
        element("tbody", {}, rows.reverse()),
      ),
    ),
  );
}

function facts(entry) {
  const machine = dashboard.machines[entry.machine];
  const pairs = [
    ["Candidate", entry.candidate], ["Threads", entry.threads], ["Instruction set", entry.level],
    ...Object.entries(entry.sizes), ["Machine", machine.name], ...Object.entries(machine.facts),
  ];
  return element(
    "div", {},
    element("h3", {}, "Measured with"),
    element(
      "dl", { class: "facts" },
      pairs
        .filter(([, value]) => value !== "")
        .map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
    ),
  );
}
