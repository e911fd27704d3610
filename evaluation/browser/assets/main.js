// Puts the parts together.
function choose(changes) {
  Object.assign(state, { page: 0 }, changes);
  drawAll();
}

function drawAll() {
  const all = base(), [, , test] = verdicts().find(([value]) => value === state.verdict);
  found = sorted(all.filter(test));
  drawControls(all);
  drawList();
  drawCharts(all);
  drawConfusion(state.pair ? base("pair") : all);
}

function drawControls(all) {
  byId("verdict").replaceChildren(...verdicts().map(([value, text, test]) => {
    const number = all.filter(test).length;
    return make("option", { value }, `${text} (${count(number)})`);
  }));
  byId("verdict").value = state.verdict;
  for (const select of byId("groups").querySelectorAll("select")) select.value = state.groups[select.dataset.group] ?? "";
  for (const name of ["search", "low", "high", "run", "sort", "size"]) {
    if (byId(name) !== document.activeElement) byId(name).value = state[name];
  }
  const accuracies = runs.map((name, run) => {
    const [value, known] = accuracy(all, run);
    return known ? `accuracy${runs.length > 1 ? ` of ${name}` : ""} ${share(value)} of ${count(known)}` : "no labels";
  });
  byId("summary").textContent = `${count(found.length)} of ${count(examples.length)} shown; ${accuracies.join(", ")}`
    + (state.verdict === "all" ? "" : ", right and wrong ones together");
  const chosen = Object.entries(state.groups).map(([name, kind]) => [`${name}: ${kind}`, () => {
    const { [name]: _, ...groups } = state.groups;
    choose({ groups });
  }]);
  if (state.pair) chosen.push([`${state.pair[0]} → ${state.pair[1]}`, () => choose({ pair: null })]);
  byId("chosen").replaceChildren(...chosen.map(([text, undo]) => {
    const button = make("button", { type: "button", dir: "auto" }, `${text} ✕`);
    button.addEventListener("click", undo);
    return button;
  }));
}

function buildControls() {
  for (const [name, all] of kinds) {
    if (all.length < 2 || name === CONFIDENCE) continue;
    const label = make("label", {}, `${name} `), select = make("select", { "data-group": name, "aria-label": name });
    select.append(make("option", { value: "" }, "any"), ...all.map((kind) => make("option", { value: kind }, kind)));
    select.addEventListener("change", () => {
      const { [name]: _, ...groups } = state.groups;
      choose({ groups: select.value ? { ...groups, [name]: select.value } : groups });
    });
    label.append(select);
    byId("groups").append(label);
  }
  byId("run").append(...runs.map((name, value) => make("option", { value }, name)));
  byId("run-label").hidden = runs.length < 2;
  byId("sort").append(...Object.entries(SORTS).map(([value, [text]]) => make("option", { value }, text)));
  const listen = (name, event, change) => byId(name).addEventListener(event, () => choose(change(byId(name).value)));
  listen("search", "input", (search) => ({ search: search.trim() }));
  listen("verdict", "change", (verdict) => ({ verdict }));
  listen("low", "input", (value) => ({ low: Number(value) }));
  listen("high", "input", (value) => ({ high: value === "" ? 100 : Number(value) }));
  listen("run", "change", (value) => ({ run: Number(value) }));
  listen("sort", "change", (sort) => ({ sort }));
  listen("size", "change", (value) => ({ size: Number(value) }));
  byId("reset").addEventListener("click", () => choose({ search: "", verdict: "all", groups: {}, low: 0, high: 100,
    sort: "file", pair: null }));
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));
}

function drawMetrics() {
  const rows = content.sections.flatMap((section) => section.rows);
  byId("metrics").hidden = !rows.length;
  const prior = rows.some((row) => row.prior);
  for (const section of content.sections) {
    const head = make("tr");
    head.append(make("th", { scope: "col" }, section.title), make("th", { scope: "col" }, "value"));
    if (prior) head.append(make("th", { scope: "col" }, "guessing"));
    byId("metrics-table").append(head);
    for (const row of section.rows) {
      const line = make("tr"), name = make("th", { scope: "row" }, `${row.text} `);
      name.append(make("code", {}, row.name));
      line.append(name, make("td", {}, row.value));
      if (prior) line.append(make("td", {}, row.prior));
      byId("metrics-table").append(line);
    }
  }
  byId("settings").hidden = !content.command && !content.settings;
  byId("command").textContent = content.command;
  byId("all-settings").textContent = content.settings;
}

begin(async () => {
  introduce();
  examples = JSON.parse(new TextDecoder().decode(await unpacked(content.examples)));
  sortIntoKinds();
  buildControls();
  listenToExample();
  drawCompared();
  drawMetrics();
  drawAll();
});
