// The chart of a series: its specification stands in the page, here it gets data and colors.
const DOTS = 1000; // stretches of which the chart keeps the extremes
let drawn = null;

function chartWords(entry) {
  const changes = entry.changes.map(
    (change) =>
      `${date(change.time)} ${percent(change.before, change.after)}, ` +
      `${change.worse ? "worse" : "better"}`,
  );
  return (
    `${short(entry.benchmark)} of ${short(entry.candidate)} in ${entry.metric} over time, ` +
    `${resultsOf(entry)} from ${date(entry.first)} to ${date(entry.last)}. ` +
    (changes.length ? `Changes of level: ${changes.join("; ")}.` : `${sentence(nothingFound(entry))}.`)
  );
}

async function drawChart(where, entry, { times, values, places, commits }, range) {
  const { factor } = unitOf(entry.metric, entry.high);
  const earliest = range ? entry.last - range * DAY : entry.first;
  const start = Math.max(0, times.findIndex((time) => time >= earliest));
  const points = thin(values.slice(start), DOTS).map((offset) => {
    const index = start + offset;
    const { sha = "no commit recorded", subject = "" } = commits[places[index]] ?? {};
    const [time, value] = [times[index], values[index]];
    const lines = [quantity(value, entry.metric), minute(time), `${sha} ${subject}`];
    return { time: 1000 * time, value: factor * value, details: lines.join("\n") };
  });
  const ends = entry.changes.map(({ time }) => time);
  const first = entry.changes[0]?.before ?? entry.current;
  const levels = [first, ...entry.changes.map(({ after }) => after)];
  const spec = {
    ...structuredClone(chartSpecification),
    description: chartWords(entry),
    datasets: {
      points,
      levels: levels
        .map((level, index) => ({
          start: 1000 * Math.max(ends[index - 1] ?? entry.first, earliest),
          end: 1000 * (ends[index] ?? entry.last), level: factor * level,
        }))
        .filter((level) => level.start <= level.end),
      changes: entry.changes
        .map(({ time, worse }, index) => {
          return { time: 1000 * time, worse, mark: `${index + 1} ${worse ? "✗" : "✓"}` };
        })
        .filter(({ time }) => time >= 1000 * earliest),
    },
  };
  const domains = {
    x: [1000 * Math.max(earliest, entry.first), 1000 * entry.last],
    y: valueRange(points.map(({ value }) => value)),
  };
  // Said in one layer, it holds for all.
  const { encoding } = spec.layer.find((layer) => layer.encoding.y?.scale);
  for (const [axis, domain] of Object.entries(domains)) encoding[axis].scale.domain = domain;
  const made = await vegaEmbed(where, spec, {
    actions: false, defaultStyle: false, renderer: "canvas", config: theme(points.length),
    tooltip: { theme: dark.matches ? "dark" : "light" },
  });
  if (!where.isConnected) return made.finalize(); // another one was asked for meanwhile
  drawn?.finalize();
  drawn = made;
}

// Wide enough that a steady series does not look restless.
function valueRange(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(0.06 * (high - low), 0.025 * Math.abs(high + low) - (high - low) / 2);
  return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin || 1];
}
