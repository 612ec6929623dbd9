// Draws every chart in its place, in the page's own colors, again when those change.
const specifications = JSON.parse(document.getElementById("specifications").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let drawn = [];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    range: {
      category: [color("candidate"), color("reference"), color("ink")],
      diverging: [color("candidate"), color("line"), color("reference")],
    },
    axis: {
      domain: false, ticks: false, gridColor: color("line"), labelPadding: 6, labelLimit: 170,
      labelColor: color("muted"), labelFontSize: 11, titlePadding: 10,
      titleColor: color("muted"), titleFontSize: 11, titleFontWeight: 500,
    },
    axisY: { minExtent: 36 },
    axisBand: { grid: false },
    legend: {
      orient: "top", labelColor: color("ink"), labelFontSize: 12, symbolType: "stroke",
      symbolStrokeWidth: 2.5, symbolOpacity: 1, symbolSize: 600, offset: 4, columns: 3,
    },
    point: { fill: color("candidate") },
    style: {
      bound: { color: color("ink"), strokeWidth: 1.25, strokeDash: [5, 3], opacity: 0.75 },
      halo: { stroke: color("paper"), strokeWidth: 4, strokeJoin: "round" },
      within: { color: color("candidate") },
      beyond: { color: color("fail") },
      block: { color: color("ink"), opacity: 0.4, thickness: 1 },
      "on-candidate": { color: color("paper") },
      "on-reference": { color: "#131417" },
      link: { color: color("ink"), strokeWidth: 1.25 },
      end: { color: color("ink"), size: 44, opacity: 1 },
      ring: { color: color("ink"), size: 150, strokeWidth: 1.75, opacity: 1 },
      chosen: { color: color("ink"), size: 110, opacity: 1 },
    },
    text: { color: color("ink"), fontSize: 11, fontWeight: 400 },
  };
}

async function draw() {
  const options = {
    actions: false, defaultStyle: false, renderer: "svg", config: theme(),
    tooltip: { theme: dark.matches ? "dark" : "light" },
  };
  drawn.forEach((chart) => chart.finalize());
  drawn = await Promise.all(
    Object.entries(specifications).map(([id, spec]) => vegaEmbed(`#${id}`, spec, options)),
  );
}

dark.addEventListener("change", draw);
draw();
