// What is shown stands in the address, behind the #: links keep it, back and forward work.
//   view: regressions, else the benchmarks; series: the one that is open; range: days of it;
//   the filters by their names.
const FILTERS = ["machine", "benchmark", "candidate", "threads", "status", "q"];

function state() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

// The address of the present state with some changes; an empty value leaves its name out.
function address(changes) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) {
    if (value) parameters.set(name, value);
    else parameters.delete(name);
  }
  return `#${parameters}`;
}

function go(changes, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address(changes));
  render();
}
