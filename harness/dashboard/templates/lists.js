// The grid of benchmarks and the list of regressions, and the filters of both.
const place = Object.fromEntries(
  ["filters", "found", "benchmarks", "regressions", "series"].map((id) => [
    id, document.getElementById(id),
  ]),
);

function machineName(entry) {
  return short(dashboard.machines[entry.machine].name);
}

function words(entry) {
  const commits = entry.changes.flatMap(({ from, to }) => [from, to]).filter(Boolean);
  return [
    entry.benchmark, entry.candidate, entry.metric, threads(entry), machineName(entry),
    entry.level, ...Object.entries(entry.sizes).flat(),
    ...commits.flatMap(({ sha, subject }) => [sha, subject]),
  ].join(" ").toLowerCase();
}

function chosen(filters) {
  const search = (filters.q ?? "").toLowerCase().split(/\s+/);
  const same = FILTERS.filter((name) => name !== "q" && filters[name]);
  return dashboard.series.filter(
    (entry) =>
      same.every((name) => String(entry[name]) === filters[name]) &&
      search.every((word) => (entry.words ??= words(entry)).includes(word)),
  );
}

// Changes for the worse, the newest first; with the filter "regressed" those that stand.
function losses(entries, { status }) {
  const counts = (change) => change.worse && !(status === "regressed" && change.mended);
  const found = entries.flatMap((entry) =>
    entry.changes.filter(counts).map((change) => ({ entry, change })),
  );
  return found.sort((one, other) => other.change.time - one.change.time);
}

// Where a series is measured, as far as it tells it from its neighbors.
function surroundings(entry) {
  const varies = (name) => dashboard.series.some((other) => other[name] !== entry[name]);
  return [
    short(entry.candidate), threads(entry),
    varies("level") && entry.level, varies("machine") && machineName(entry),
  ].filter(Boolean).join(" · ");
}

// The address of a series, from where it was found.
function linkTo(view, entry) {
  return address({ view, series: entry.id, range: "" });
}

function card(entry) {
  const change = entry.changes.at(-1);
  const figures = [
    element("span", { class: "value" }, figure(entry.value, entry.metric)),
    change
      ? element(
          "span", { class: "change" },
          element(
            "b", { class: change.worse ? "worse" : "better" },
            `${percent(change.before, change.after)} ${change.worse ? "worse" : "better"}`,
          ),
          ` since ${date(change.time)}`,
        )
      : element(
          "span", { class: "change" },
          entry.status === TOO_FEW ? resultsOf(entry) : "no change found",
        ),
  ];
  const link = element(
    "a",
    { class: `card ${entry.status}`, href: linkTo("", entry), "data-id": entry.id },
    element("span", { class: "name" }, short(entry.benchmark), statusMark(entry.status)),
    element("span", { class: "of" }, surroundings(entry)),
    element("span", { class: "figures" }, figures),
    sparkline(entry),
  );
  return element("li", {}, link);
}

function loss({ entry, change }) {
  const link = { class: "name", href: linkTo("regressions", entry), "data-id": entry.id };
  return element(
    "li", {},
    element("time", {}, date(change.time)),
    element(
      "div", {},
      element("a", link, short(entry.benchmark)),
      element("span", { class: "of" }, surroundings(entry)),
    ),
    changeParts(entry, change),
  );
}

function fillFilters() {
  const sorted = (values) =>
    [...new Set(values)].sort((one, other) =>
      String(one).localeCompare(String(other), "en", { numeric: true }),
    );
  for (const select of place.filters.querySelectorAll("select")) {
    for (const value of sorted(dashboard.series.map((entry) => entry[select.name]))) {
      const name = select.name === "machine" ? dashboard.machines[value].name : value;
      select.append(element("option", { value }, short(String(name))));
    }
    select.addEventListener("change", () => go({ [select.name]: select.value }));
  }
  const search = place.filters.elements.q;
  search.addEventListener("input", () => go({ q: search.value }, { replace: true }));
  place.filters.addEventListener("submit", (event) => event.preventDefault());
}

function showFilters(filters) {
  for (const name of FILTERS) {
    const control = place.filters.elements[name];
    const value = filters[name] ?? "";
    const known = [...(control.options ?? [])].some((option) => option.value === value);
    if (control.options && !known) {
      control.append(element("option", { value }, `${value} (not in this history)`));
    }
    if (control.value !== value) control.value = value;
  }
  const clear = place.filters.querySelector(".clear");
  clear.href = address(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  clear.hidden = !FILTERS.some((name) => filters[name]);
}

function nothingWorse(entries) {
  return entries.length && entries.every(({ status }) => status === TOO_FEW)
    ? "Too few results to tell."
    : "No change for the worse was found.";
}

const listed = {}; // by list, the filters that it was made with: it is not made again

// Only the list that is seen is made; the counts are of both.
function showLists(filters, seen) {
  const entries = chosen(filters);
  const worse = losses(entries, filters);
  showFilters(filters);
  document.querySelector("#tab-benchmarks .count").textContent = number(entries.length);
  document.querySelector("#tab-regressions .count").textContent = number(worse.length);
  place.found.textContent = `${number(entries.length)} of ${number(dashboard.series.length)}`;
  const key = JSON.stringify(FILTERS.map((name) => filters[name] ?? ""));
  if (!seen || listed[seen] === key) return;
  listed[seen] = key;
  const list = place[seen].firstElementChild;
  if (seen === "benchmarks") showPaged(list, entries, card, "No benchmark fits these filters.");
  else showPaged(list, worse, loss, nothingWorse(entries));
}
