// Accuracy by kind as bars, and which answers are taken for which.
const MOST_BARS = 12, MOST_ANSWERS = 10;

function drawCharts(found) {
  const place = byId("charts");
  const kept = document.activeElement && document.activeElement.dataset.bar;
  place.replaceChildren();
  for (const [name, all] of kinds) {
    const parts = new Map(all.map((kind) => [kind, []]));
    for (const one of name in state.groups ? base(name) : found) if (parts.has(kindOf(one, name))) parts.get(kindOf(one, name)).push(one);
    const there = [...parts].filter(([, part]) => part.length);
    if (!there.some(([, part]) => accuracy(part, 0)[1]) || all.length < 2) continue;
    const section = make("section", { "data-chart": name });
    section.append(make("h2", { dir: "auto" }, `Accuracy by ${name}`));
    const bars = make("div", { class: runs.length > 1 ? "bars two" : "bars", role: "group", "aria-label": `accuracy by ${name}` });
    for (const [kind, part] of there.slice(0, MOST_BARS)) bars.append(bar(name, kind, part));
    section.append(bars);
    const more = there.length - MOST_BARS;
    if (more > 0) section.append(make("p", { class: "faint" }, `${count(more)} rarer kinds are in the list above.`));
    roving(bars);
    place.append(section);
  }
  if (kept) [...place.querySelectorAll("button")].find((one) => one.dataset.bar === kept)?.focus();
}

function bar(name, kind, part) {
  const shares = runs.map((_, run) => accuracy(part, run)), known = shares[0][1];
  const text = shares.map(([value]) => (known ? share(value) : "–")).join(" / ");
  const button = make("button", { type: "button", class: "bar", "data-bar": `${name}\n${kind}`,
    "aria-pressed": String(state.groups[name] === kind) });
  button.append(make("span", { dir: "auto" }, kind));
  const track = make("span", { class: "track" });
  shares.forEach(([value], run) => {
    const fill = make("span", { class: run ? "fill second" : "fill" });
    fill.style.width = `${known ? 100 * value : 0}%`;
    track.append(fill);
  });
  button.append(track, make("span", {}, `${text} of ${count(known)}`));
  button.addEventListener("click", () => {
    const groups = { ...state.groups };
    if (groups[name] === kind) delete groups[name];
    else groups[name] = kind;
    choose({ groups });
  });
  return button;
}

function drawConfusion(found) {
  const pairs = new Map(), trues = new Map(), predicted = new Map();
  const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
  for (const one of found) {
    if (!one.true) continue;
    add(trues, one.true);
    add(predicted, answer(one).predicted);
    add(pairs, JSON.stringify([one.true, answer(one).predicted]));
  }
  byId("confusion").hidden = !trues.size;
  const most = (map) => [...map].sort((a, b) => b[1] - a[1]).slice(0, MOST_ANSWERS).map(([key]) => key);
  const rows = most(trues), columns = most(predicted);
  columns.sort((a, b) => (rows.indexOf(a) + 1 || 99) - (rows.indexOf(b) + 1 || 99));
  const head = make("tr");
  head.append(make("th", { scope: "col" }, "true ↓ predicted →"),
    ...columns.map((one) => make("th", { scope: "col", dir: "auto" }, one)));
  const kept = document.activeElement && document.activeElement.dataset.pair;
  byId("matrix").replaceChildren(head);
  for (const row of rows) {
    const line = make("tr");
    line.append(make("th", { scope: "row", dir: "auto" }, row));
    for (const column of columns) {
      const number = pairs.get(JSON.stringify([row, column])) || 0, part = number / trues.get(row);
      const cell = pairButton([row, column], count(number), "cell");
      cell.setAttribute("aria-label", `${row}, predicted ${column}: ${count(number)}`);
      cell.style.background = colour(part);
      cell.style.color = letters(part);
      const place = make("td");
      place.append(cell);
      line.append(place);
    }
    byId("matrix").append(line);
  }
  if (rows.length) roving(byId("matrix"), () => columns.length);
  const confused = [...pairs].map(([key, number]) => [JSON.parse(key), number])
    .filter(([[a, b]]) => a !== b).sort((a, b) => b[1] - a[1]).slice(0, 12);
  byId("confused").replaceChildren(...confused.map(([pair, number]) => pairButton(pair,
    `${pair[0]} → ${pair[1]} (${count(number)})`, "token")));
  if (confused.length) roving(byId("confused"));
  if (kept) [...byId("confusion").querySelectorAll("button")].find((one) => one.dataset.pair === kept)?.focus();
}

function pairButton(pair, text, kind) {
  const pressed = state.pair && state.pair[0] === pair[0] && state.pair[1] === pair[1];
  const button = make("button", { type: "button", class: kind, dir: "auto",
    "aria-pressed": String(Boolean(pressed)), "data-pair": `${kind} ${JSON.stringify(pair)}` }, text);
  button.addEventListener("click", () => choose({ pair: pressed ? null : pair }));
  return button;
}

function drawCompared() {
  const found = content.mcnemar;
  if (runs.length > 1) {
    document.querySelector("main").classList.add("two");
    byId("runs-legend").hidden = false;
    byId("runs-legend").append(...runs.flatMap((name, run) => [
      make("span", { class: run ? "fill second" : "fill" }), make("bdi", {}, name)]));
  }
  if (!found) return;
  byId("compared").hidden = false;
  for (const [i, name] of ["first", "second"].entries()) {
    byId(`${name}-right`).textContent = `${runs[i]} right`;
    byId(`${name}-wrong`).textContent = `${runs[i]} wrong`;
  }
  for (const key of ["both", "first", "second", "neither"]) byId(key).textContent = count(found[key]);
  const p = found.p < 0.001 ? found.p.toExponential(1) : found.p.toFixed(3);
  byId("test").textContent = `They differ on ${count(found.first + found.second)} examples: `
    + `${runs[0]} is right on ${count(found.first)} of them, ${runs[1]} on ${count(found.second)}. `
    + `McNemar's test (${found.method}): p = ${p}.`;
}
