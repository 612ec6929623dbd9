// The page's own colors and type for a chart; many dots are small and faint.
const dark = matchMedia("(prefers-color-scheme: dark)");

function theme(dots) {
  const style = getComputedStyle(document.documentElement);
  const many = dots > 400;
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const rule = (name) => ({ color: color(name), strokeWidth: 1.25, strokeDash: [4, 3] });
  const mark = (name) => ({ color: color(name), fontSize: 11, fontWeight: 600 });
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      domain: false, ticks: false, gridColor: color("line"), labelPadding: 6,
      labelColor: color("muted"), labelFontSize: 11,
    },
    axisY: { minExtent: 36 },
    style: {
      result: { color: color("candidate"), opacity: many ? 0.4 : 0.8, size: many ? 14 : 40 },
      pointed: { color: color("reference"), size: 80 },
      level: { color: color("ink"), strokeWidth: 2 },
      worse: rule("fail"), "worse-mark": mark("fail"),
      better: rule("pass"), "better-mark": mark("pass"),
    },
  };
}
