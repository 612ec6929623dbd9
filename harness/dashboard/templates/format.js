// Numbers, units and dates as people read them, and fewer points that look the same.
const DAY = 86400;
const TOO_FEW = "too few results"; // the status of a series that cannot be judged
const MARKS = { regressed: "✗", improved: "✓", steady: "–", [TOO_FEW]: "?" };
const PREFIXES = {
  s: [[1, "s"], [1e3, "ms"], [1e6, "µs"], [1e9, "ns"]],
  bytes: [[2 ** -30, "GiB"], [2 ** -20, "MiB"], [2 ** -10, "KiB"], [1, "bytes"]],
};
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// The unit in which a value is at least 1, and how many of it are one of the metric's own.
function unitOf(metric, value) {
  const known = PREFIXES[metric] ?? [[1, metric]];
  const [factor, name] = known.find(([times]) => Math.abs(value) * times >= 1) ?? known.at(-1);
  return { factor, name };
}

function number(value) {
  return (Math.abs(value) >= 1000 ? whole : few).format(value).replace("-", "−");
}

function quantity(value, metric) {
  const { factor, name } = unitOf(metric, value);
  return `${number(value * factor)} ${name}`;
}

function percent(before, after) {
  if (before === 0) return "from 0";
  const change = 100 * (after / before - 1);
  return `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(1)}%`;
}

function date(seconds) {
  return new Date(1000 * seconds).toISOString().slice(0, 10);
}

function minute(seconds) {
  return `${new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function plural(count, one, many) {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}

// A name as far as it is shown.
function short(text) {
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function resultsOf(entry) {
  return plural(entry.count, "result", "results");
}

function threads(entry) {
  return plural(entry.threads, "thread", "threads");
}

// Indices of the least and the greatest value of each stretch, of the first and the last one.
function thin(values, stretches) {
  const count = values.length;
  if (count <= 2 * stretches) return values.map((_, index) => index);
  const kept = new Set([0, count - 1]);
  for (let stretch = 0; stretch < stretches; stretch++) {
    const start = Math.floor((stretch * count) / stretches);
    const end = Math.floor(((stretch + 1) * count) / stretches);
    let [least, most] = [start, start];
    for (let index = start; index < end; index++) {
      if (values[index] < values[least]) least = index;
      if (values[index] > values[most]) most = index;
    }
    kept.add(least).add(most);
  }
  return [...kept].sort((one, other) => one - other);
}
