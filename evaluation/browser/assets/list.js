// The list of examples, a page at a time.
let found = []; // in the order in which they are listed

const VERDICTS = new Map([[true, ["right", "✓ right"]], [false, ["wrong", "✗ wrong"]],
  [null, ["unknown", "? unknown"]]]);

const COLUMNS = () => {
  const several = runs.length > 1, hasTruth = examples.some((one) => one.true);
  const of = (text, run) => (several ? `${text}, ${runs[run]}` : text);
  const number = (value) => (value === null ? "–" : value.toPrecision(3));
  const out = [];
  runs.forEach((_, run) => out.push([of("verdict", run), "mark", (one) => VERDICTS.get(one.answers[run].right)]));
  out.push(["text", "text", (one) => one.text || one.id]);
  runs.forEach((_, run) => out.push([of("predicted", run), "", (one) => one.answers[run].predicted]));
  if (hasTruth) out.push(["true", "", (one) => one.true]);
  if (kinds.has(CONFIDENCE)) {
    out.push(["confidence", "number", (one) => (answer(one).confidence === null ? "–" : share(answer(one).confidence))]);
  }
  if (examples.some((one) => one.answers[0].loss !== null)) out.push(["loss", "number", (one) => number(answer(one).loss)]);
  out.push(["regions", "number", (one) => String(one.regions)]);
  return out;
};

function drawList() {
  const pages = Math.max(Math.ceil(found.length / state.size), 1);
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const first = state.page * state.size, columns = COLUMNS();
  const head = make("tr");
  head.append(...columns.map(([name, kind]) => make("th", { scope: "col", dir: "auto", class: kind }, name)));
  byId("head").replaceChildren(head);
  byId("rows").replaceChildren(...found.slice(first, first + state.size).map((one, i) => {
    const row = make("tr");
    for (const [name, kind, text] of columns) {
      const cell = make("td", { class: kind, "data-label": name });
      if (kind === "text") cell.append(make("button", { type: "button", dir: "auto" }, text(one)));
      else if (kind === "mark") {
        const [verdict, label] = text(one);
        cell.classList.add(verdict);
        cell.textContent = label;
      } else cell.append(make("bdi", {}, text(one)));
      row.append(cell);
    }
    row.addEventListener("click", () => openExample(first + i));
    return row;
  }));
  if (found.length) roving(byId("rows"));
  const last = Math.min(first + state.size, found.length);
  byId("place").textContent = found.length ? `${count(first + 1)}–${count(last)} of ${count(found.length)}` : "none";
  byId("before").disabled = state.page === 0;
  byId("after").disabled = state.page === pages - 1;
}

function turn(pages) {
  state.page += pages;
  drawList();
}

// Where an example of the list is in the table, which shows its page.
function rowButton(place) {
  const page = Math.floor(place / state.size);
  if (page !== state.page) {
    state.page = page;
    drawList();
  }
  return byId("rows").querySelectorAll("button")[place % state.size];
}
