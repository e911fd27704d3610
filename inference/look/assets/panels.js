// Head grid, matrix, statistics of all layers and heads, and the 2-d map of states.
function buildPanels() {
  const kinds = { self: "self-attention", text: "words", image: "regions",
    text_to_image: "words look at regions", image_to_text: "regions look at words" };
  for (const kind of new Set(attention.maps.map((map) => map.kind))) {
    byId("kind").append(make("option", { value: kind }, kinds[kind]));
  }
  byId("kind-label").hidden = byId("kind").options.length < 2;
  attention.statistics.forEach((one, i) => {
    byId("statistic").append(make("option", { value: i }, one.title));
  });
  const most = Math.max(...attention.maps.map((map) => map.heads));
  const head = make("tr");
  head.append(make("th", { scope: "col" }, "head"));
  for (let h = 0; h < most; h++) head.append(make("th", { scope: "col" }, h + 1));
  byId("statistics").append(head);
  attention.maps.forEach((map, number) => {
    const row = make("tr");
    row.append(make("th", { scope: "row" }, map.label));
    for (let h = 0; h < map.heads; h++) {
      const cell = make("button", { type: "button", class: "cell", "data-map": number,
        "data-head": h });
      cell.addEventListener("click", () => choose({ level: map.level, kind: map.kind, head: h }));
      const place = make("td");
      place.append(cell);
      row.append(place);
    }
    byId("statistics").append(row);
  });
  roving(byId("statistics"), () => most);
  byId("matrix").addEventListener("pointermove", (event) => pointAt(event, false));
  byId("matrix").addEventListener("pointerleave", () => { byId("matrix-note").textContent = matrixTitle(); });
  byId("matrix").addEventListener("click", (event) => pointAt(event, true));
}

function drawHeads() {
  const map = mapShown(), grid = byId("grid");
  const kept = document.activeElement && document.activeElement.dataset.choice;
  grid.replaceChildren();
  for (const head of ["mean", "rollout", ...Array(map.heads).keys()]) {
    const name = { mean: "mean", rollout: "rollout" }[head] || `head ${head + 1}`;
    const button = make("button", { type: "button", class: "head", "data-choice": head,
      "aria-pressed": String(state.head === head) });
    const [numbers, rows, columns] = head === "rollout" ? blockOf(map)
      : [matrix(map, head), map.queries[1] - map.queries[0], map.keys[1] - map.keys[0]];
    const canvas = make("canvas", { width: columns, height: rows, "aria-hidden": "true" });
    paintNumbers(canvas.getContext("2d"), numbers, rows, columns);
    button.append(canvas, name);
    button.addEventListener("click", () => choose({ head }));
    grid.append(button);
    if (kept === String(head)) button.focus();
  }
  roving(grid);
}

// The part of the rollout that is between the tokens of a map.
function blockOf(map) {
  const all = matrix(attention.rollouts[state.level], 0), size = tokens.length, out = [];
  for (let q = map.queries[0]; q < map.queries[1]; q++) {
    for (let k = map.keys[0]; k < map.keys[1]; k++) out.push(all[q * size + k]);
  }
  return [out, map.queries[1] - map.queries[0], map.keys[1] - map.keys[0]];
}

// Numbers as pixels, scaled by their largest.
function paintNumbers(context, numbers, rows, columns) {
  const image = context.createImageData(columns, rows);
  const most = numbers.reduce((a, b) => Math.max(a, b), 0) || 1;
  for (let i = 0; i < numbers.length; i++) image.data.set([...rgb(numbers[i] / most), 255], 4 * i);
  context.putImageData(image, 0, 0);
}

// The chosen head of the shown map: [numbers, queries, keys, title].
function matrixShown() {
  const map = mapShown();
  const numbers = state.head === "rollout" ? blockOf(map)[0]
    : matrix(map, state.head === "mean" || state.head >= map.heads ? "mean" : state.head);
  return [numbers, map.queries, map.keys];
}

function matrixTitle() {
  const map = mapShown();
  const head = { mean: `mean over ${map.heads} heads`, rollout: "rollout" }[state.head]
    || `head ${state.head + 1}`;
  return `${map.label}, ${head}; rows look at columns`;
}

const LABELS = 90; // pixels that names take beside and above a matrix
let cellSide = 1;

function paintMatrix(context, ink, side) {
  const [numbers, queries, keys] = matrixShown();
  const columns = keys[1] - keys[0], rows = queries[1] - queries[0];
  const most = numbers.reduce((a, b) => Math.max(a, b), 0) || 1;
  context.font = `${Math.min(side - 1, 11)}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      context.fillStyle = colour(numbers[row * columns + i] / most);
      context.fillRect(LABELS + i * side, LABELS + row * side, side, side);
    }
  }
  context.fillStyle = context.strokeStyle = ink;
  for (const [span, turned] of [[queries, false], [keys, true]]) {
    for (let i = span[0]; i < span[1]; i++) {
      const at = LABELS + (i - span[0] + 0.5) * side;
      context.save();
      if (turned) context.rotate(-Math.PI / 2);
      context.textAlign = turned ? "left" : "right";
      const text = tokens[i].text.length > 14 ? `${tokens[i].text.slice(0, 13)}…` : tokens[i].text;
      context.fillText(text, turned ? 4 - LABELS : LABELS - 4, at, LABELS - 6);
      context.restore();
    }
  }
  return [LABELS + columns * side, LABELS + rows * side];
}

function drawMatrix() {
  const [, queries, keys] = matrixShown(), canvas = byId("matrix");
  const longest = Math.max(queries[1] - queries[0], keys[1] - keys[0]);
  const room = canvas.parentElement.clientWidth - LABELS;
  cellSide = Math.max(9, Math.min(22, Math.floor(room / longest)));
  const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  const width = LABELS + (keys[1] - keys[0]) * cellSide;
  const height = LABELS + (queries[1] - queries[0]) * cellSide;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  paintMatrix(context, getComputedStyle(canvas).color, cellSide);
  byId("matrix-note").textContent = matrixTitle();
}

// The cell under a pointer is told; a click keeps its row's token.
function pointAt(event, keep) {
  const [numbers, queries, keys] = matrixShown(), place = byId("matrix").getBoundingClientRect();
  const column = Math.floor((event.clientX - place.left - LABELS) / cellSide);
  const row = Math.floor((event.clientY - place.top - LABELS) / cellSide);
  const columns = keys[1] - keys[0];
  if (row < 0 || row >= queries[1] - queries[0] || column < 0 || column >= columns) return;
  const q = queries[0] + row, k = keys[0] + column;
  byId("matrix-note").textContent =
    `${quoted(q)} looks at ${quoted(k)}: ${percent(numbers[row * columns + column])}`;
  if (keep) {
    state.pinned = q;
    drawTokens();
  }
}

function drawStatistics() {
  const one = attention.statistics[state.statistic];
  byId("statistic-note").textContent = one.note;
  for (const cell of byId("statistics").querySelectorAll("button")) {
    const map = attention.maps[cell.dataset.map], head = Number(cell.dataset.head);
    const row = one.rows[cell.dataset.map], value = row ? row[head] : null;
    const known = value !== null, text = known ? value.toFixed(2) : "–";
    cell.textContent = text.replace(/^0/, "");
    cell.setAttribute("aria-label", `${map.label}, head ${head + 1}: ${text}`);
    cell.style.background = known ? colour(value) : "transparent";
    cell.style.color = known ? letters(value) : "inherit";
    cell.setAttribute("aria-pressed", String(map === mapShown() && state.head === head));
  }
}

const points = []; // of each token, at the shown stage
const SPAN = 100; // units of a panel's side
const RIGHT = 0.4; // from where on a point's name stands on its left

function place(token, x, y) {
  const left = SPAN / 2 + x * (SPAN / 2 - 9), top = SPAN / 2 - y * (SPAN / 2 - 6);
  return [left, top];
}

function drawStates() {
  const stage = attention.stages[state.stage], holder = byId("states");
  byId("stage").value = state.stage;
  byId("stage-name").textContent = state.stage ? attention.levels[state.stage - 1] : "the input";
  if (holder.children.length !== stage.length) buildStates(stage);
  stage.forEach((panel, number) => {
    holder.children[number].lastChild.textContent = panelTitle(panel, stage);
    panel.places.forEach(([x, y], i) => {
      const token = panel.tokens[0] + i, [left, top] = place(token, x, y);
      const [mark, label] = points[token];
      const round = tokens[token].kind === "word";
      mark.setAttribute(round ? "cx" : "x", round ? left : left - 1.8);
      mark.setAttribute(round ? "cy" : "y", round ? top : top - 1.8);
      label.setAttribute("x", left + (x > RIGHT ? -2.6 : 2.6));
      label.setAttribute("text-anchor", x > RIGHT ? "end" : "start");
      label.setAttribute("y", top + 1.4);
    });
  });
}

function panelTitle(panel, stage) {
  const what = stage.length === 1 ? "words and regions" : tokens[panel.tokens[0]].kind + "s";
  return `${what}; the axes hold ${percent(panel.explained)} of the variance`;
}

function buildStates(stage) {
  byId("states").replaceChildren(...stage.map((panel) => {
    const figure = make("figure"), svg = make("svg", { viewBox: `0 0 ${SPAN} ${SPAN}`,
      role: "img", "aria-label": panelTitle(panel, stage) });
    for (let token = panel.tokens[0]; token < panel.tokens[1]; token++) {
      const round = tokens[token].kind === "word";
      const mark = round ? make("circle", { class: "point word", r: 2 })
        : make("rect", { class: "point region", width: 3.6, height: 3.6 });
      mark.append(make("title", {}, tokens[token].text));
      const text = round ? tokens[token].text.slice(0, 12) : tokens[token].text.split(" ")[0];
      const label = make("text", {}, text);
      points[token] = [mark, label];
      listen(mark, token);
      svg.append(mark, label);
    }
    figure.append(svg, make("figcaption"));
    return figure;
  }));
}

function drawShown() {
  points.forEach(([mark], i) => mark.classList.toggle("shown", i === shown()));
}
