// Puts the parts together.
function choose(changes) {
  const moved = "level" in changes && changes.level !== state.level;
  Object.assign(state, changes);
  if (moved) state.stage = state.level + 1;
  if (typeof state.head === "number" && state.head >= mapShown().heads) state.head = "mean";
  drawAll();
}

function drawControls() {
  const map = mapShown();
  byId("level").value = state.level;
  byId("level-name").textContent = attention.levels[state.level];
  byId("level").setAttribute("aria-valuetext", attention.levels[state.level]);
  const names = [["mean", "mean over heads"], ["rollout", "rollout"],
    ...[...Array(map.heads).keys()].map((h) => [h, `head ${h + 1}`])];
  byId("head").replaceChildren(...names.map(([value, text]) => make("option", { value }, text)));
  byId("head").value = state.head;
  const here = new Set(mapsHere().map((one) => one.kind));
  for (const option of byId("kind").options) option.disabled = !here.has(option.value);
  byId("kind").value = map.kind;
}

function drawAll() {
  drawControls();
  drawTokens();
  drawHeads();
  drawMatrix();
  drawStatistics();
  drawStates();
  drawShown();
}

function listenToControls() {
  const number = (event) => Number(event.target.value);
  byId("level").addEventListener("input", (event) => choose({ level: number(event) }));
  byId("head").addEventListener("change", (event) => {
    const value = event.target.value;
    choose({ head: ["mean", "rollout"].includes(value) ? value : Number(value) });
  });
  byId("kind").addEventListener("change", (event) => choose({ kind: event.target.value }));
  byId("direction").addEventListener("change", (event) => choose({ direction: event.target.value }));
  byId("scale").addEventListener("change", (event) => choose({ scale: event.target.value }));
  byId("statistic").addEventListener("change", (event) => choose({ statistic: number(event) }));
  byId("stage").addEventListener("input", (event) => choose({ stage: number(event) }));
  window.addEventListener("resize", () => drawMatrix());
}

// The word that looks most at one region, to begin with.
function mostTelling() {
  const most = tokens.map((one, i) => (one.kind !== "word" || one.special ? -1
    : Math.max(...valuesOf(i).map((value, k) => (boxes[k] && value >= 0 ? value : 0)))));
  return most.indexOf(Math.max(...most));
}

async function start() {
  introduce();
  await unpack();
  buildScene();
  buildSave();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    state.pinned = state.preview = null;
    drawTokens();
  });
  if (!attention) {
    drawTokens();
    return;
  }
  document.querySelector("main").classList.add("with-model");
  byId("controls").hidden = byId("panels").hidden = false;
  byId("level").max = attention.levels.length - 1;
  byId("stage").max = attention.stages.length - 1;
  state.level = attention.levels.length - 1;
  state.stage = state.level + 1;
  state.kind = attention.maps.some((map) => map.kind === "text_to_image") ? "text_to_image" : "self";
  state.pinned = mostTelling();
  buildPanels();
  listenToControls();
  drawAll();
}

begin(start);
