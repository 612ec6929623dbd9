// Elements of the page. Text is only ever set as text: a name cannot become markup.
const PAGE = 60; // items of a list at first, and with each "show more"

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  return fill(made, attributes, children);
}

function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(made, attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return made;
}

// A list that grows where it is asked to.
function showPaged(list, items, make, nothing) {
  const section = list.parentElement;
  section.querySelectorAll(".more, .empty").forEach((old) => old.remove());
  list.replaceChildren();
  const more = element("button", { class: "more", type: "button" });
  let shown = 0;
  const show = () => {
    const next = items.slice(shown, shown + PAGE).map(make);
    list.append(...next);
    shown += next.length;
    more.textContent = `Show more (${items.length - shown} left)`;
    more.hidden = shown >= items.length;
    return next[0];
  };
  more.addEventListener("click", () => show().querySelector("a").focus());
  show();
  section.append(items.length ? more : element("p", { class: "empty" }, nothing));
}

function statusMark(status) {
  return element(
    "span", { class: `status ${status}` },
    element("span", { "aria-hidden": "true" }, MARKS[status]), ` ${status}`,
  );
}

function commitLine(commit, before = "") {
  if (!commit) return element("span", { class: "commit" }, `${before}no commit recorded`);
  const text = `${short(commit.subject)}${commit.dirty ? " (with changes)" : ""}`;
  return element(
    "span", { class: "commit", title: text },
    before, element("code", {}, commit.sha), ` ${text}`,
  );
}

// A value with its unit in small.
function figure(value, metric) {
  const { factor, name } = unitOf(metric, value);
  return [number(value * factor), element("small", {}, ` ${name}`)];
}

// A change of level: how large, between which commits, and whether it was mended.
function changeParts(entry, change) {
  const word = change.worse ? "worse" : "better";
  const levels = [change.before, change.after].map((level) => quantity(level, entry.metric));
  const p = change.p < 0.001 ? "p < 0.001" : `p = ${change.p.toFixed(3)}`;
  const size = element(
    "div", {},
    element(
      "b", { class: word },
      `${change.worse ? "✗" : "✓"} ${percent(change.before, change.after)} ${word}`,
    ),
    element("span", { class: "of" }, levels.join(" → ")), element("span", { class: "of" }, p),
  );
  const after = change.mended;
  const became = after
    ? [
        element("b", { class: "better" }, `✓ mended ${date(after.time)}`),
        after.commit && commitLine(after.commit),
      ]
    : change.worse && element("b", { class: "worse" }, "✗ stands");
  return [size, element("div", {}, commitsBetween(change)), element("div", {}, became)];
}

// The commits measured last before a change and first after it.
function commitsBetween({ from, to, gradual }) {
  const note = (text) => element("span", { class: "of" }, text);
  if (!from && !to) return commitLine(null);
  if (from && to && from.sha === to.sha && from.dirty === to.dirty) {
    const where = "The same commit before and after: look at the machine, not at the code.";
    return [commitLine(to), note(where)];
  }
  const lines = [commitLine(from, "after "), commitLine(to, "by ")];
  return gradual ? [...lines, note("Part of a slow drift: no single commit explains it.")] : lines;
}

// A sparkline: the values faint, the levels strong; in words as well.
function sparkline(entry) {
  const [width, height] = [200, 44];
  const scale = (height - 4) / (entry.high - entry.low || 1);
  const y = (above) => (height - 2 - above * scale).toFixed(1);
  const span = entry.high - entry.low;
  const last = entry.spark.length - 1 || 1;
  const raw = entry.spark.map(
    (share, at) => `${((width * at) / last).toFixed(1)} ${y((share / 100) * span)}`,
  );
  const steps = entry.changes.map(
    ({ at, after }) => `H${((width * at) / entry.count).toFixed(1)} V${y(after - entry.low)}`,
  );
  const start = y((entry.changes[0]?.before ?? entry.current) - entry.low);
  const words =
    `${resultsOf(entry)} from ${date(entry.first)} to ` +
    `${date(entry.last)}, between ${quantity(entry.low, entry.metric)} and ` +
    `${quantity(entry.high, entry.metric)}`;
  return drawing(
    "svg",
    {
      class: "spark", role: "img", "aria-label": words,
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none",
    },
    drawing("path", { class: "raw", d: `M${raw.join(" L")}` }),
    drawing("path", { class: "levels", d: `M0 ${start} ${steps.join(" ")} H${width}` }),
  );
}
