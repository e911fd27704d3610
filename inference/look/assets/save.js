// PNG files of single views, at twice the size they have on the page.
const ZOOM = 2, INK = "#1a1a1a", MARGIN = 12, FONT = "13px system-ui, sans-serif";

function sheet(width, height, draw) {
  const canvas = make("canvas", { width: Math.ceil(width * ZOOM), height: Math.ceil(height * ZOOM) });
  const context = canvas.getContext("2d");
  context.scale(ZOOM, ZOOM);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.fillStyle = INK;
  context.font = FONT;
  context.textBaseline = "alphabetic";
  return Promise.resolve(draw(context)).then(() => canvas);
}

// Texts in lines of a width; with a context that draws, where each one stands.
function flow(context, items, width, top, draw) {
  let x = MARGIN, y = top;
  for (const item of items) {
    const wide = context.measureText(tokens[item].text).width + 14;
    if (x > MARGIN && x + wide > width - MARGIN) [x, y] = [MARGIN, y + 26];
    if (draw) draw(item, x, y, wide);
    x += wide + 5;
  }
  return y + 26;
}

async function saveScene() {
  const { uri, width, height } = content.picture, wide = 640;
  const zoom = wide / width, high = height * zoom, token = shown();
  const values = valuesOf(token), scales = scalesOf(token, values);
  const items = tokens.map((_, i) => i)
    .filter((i) => tokens[i].kind === "word" || i === token || !(values[i] >= 0)
      || values[i] >= 0.3 * scales.region);
  const ruler = make("canvas").getContext("2d");
  ruler.font = FONT;
  const below = flow(ruler, attention ? items : [], wide, high + 2 * MARGIN + 6);
  const picture = uri ? await load(uri) : null;
  return sheet(wide, below + MARGIN, (context) => {
    context.fillStyle = "#dededa";
    context.fillRect(0, 0, wide, high);
    if (picture) context.drawImage(picture, 0, 0, wide, high);
    context.fillStyle = `rgba(0,0,0,${byId("dim").getAttribute("fill-opacity")})`;
    context.fillRect(0, 0, wide, high);
    for (const rect of byId("drawn").querySelectorAll("rect")) paintBox(context, rect, zoom);
    if (!attention) return;
    flow(context, items, wide, high + 2 * MARGIN + 6, (i, x, y, size) => {
      const most = scales[tokens[i].kind], share = most ? values[i] / most : NaN;
      context.fillStyle = Number.isNaN(share) ? "#eee" : colour(share);
      context.fillRect(x, y - 15, size, 21);
      context.strokeStyle = INK;
      context.lineWidth = i === token ? 2 : 0;
      if (i === token) context.strokeRect(x, y - 15, size, 21);
      context.fillStyle = Number.isNaN(share) ? INK : letters(share);
      context.fillText(tokens[i].text, x + 7, y);
    });
  });
}

function paintBox(context, rect, zoom) {
  const at = ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name)) * zoom);
  const look = (name) => rect.getAttribute(name);
  context.globalAlpha = Number(look("fill-opacity")) || 0;
  context.fillStyle = look("fill") === "none" ? "#000" : look("fill");
  context.fillRect(...at);
  context.globalAlpha = Number(look("stroke-opacity") || 0);
  context.strokeStyle = look("stroke");
  context.lineWidth = Number(look("stroke-width"));
  context.setLineDash(look("stroke-dasharray") === "none" ? [] : [6, 4]);
  context.strokeRect(...at);
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function load(uri) {
  return new Promise((done, failed) => {
    const picture = new Image();
    picture.onload = () => done(picture);
    picture.onerror = () => failed(new Error("the picture cannot be drawn"));
    picture.src = uri;
  });
}

function saveMatrix() {
  const [, queries, keys] = matrixShown(), side = 16, top = 26;
  const ruler = make("canvas").getContext("2d");
  ruler.font = FONT;
  const title = ruler.measureText(matrixTitle()).width;
  const width = Math.max(LABELS + (keys[1] - keys[0]) * side, title + MARGIN) + MARGIN;
  return sheet(width, LABELS + (queries[1] - queries[0]) * side + top + MARGIN, (context) => {
    context.fillText(matrixTitle(), MARGIN, 18);
    context.translate(0, top);
    paintMatrix(context, INK, side);
  });
}

function saveHeads() {
  const found = [...byId("grid").querySelectorAll("button")], side = 110, gap = 12, across = 6;
  const rows = Math.ceil(found.length / across), one = found[0].firstChild;
  const high = Math.round((side * one.height) / one.width);
  return sheet(across * (side + gap) + gap, rows * (high + 30) + 34, (context) => {
    context.imageSmoothingEnabled = false;
    context.fillText(mapShown().label, gap, 18);
    found.forEach((button, i) => {
      const x = gap + (i % across) * (side + gap), y = 28 + Math.floor(i / across) * (high + 30);
      context.drawImage(button.firstChild, x, y, side, high);
      context.fillText(button.textContent, x, y + high + 15);
    });
  });
}

function saveStatistics() {
  const one = attention.statistics[state.statistic], wide = 42, high = 22, left = 250;
  const most = Math.max(...attention.maps.map((map) => map.heads));
  return sheet(left + most * wide + MARGIN, attention.maps.length * high + 60, (context) => {
    context.fillText(`${one.title} (${one.note})`, MARGIN, 18);
    for (let h = 0; h < most; h++) context.fillText(h + 1, left + h * wide + 16, 40);
    attention.maps.forEach((map, row) => {
      const y = 46 + row * high;
      context.fillStyle = INK;
      context.fillText(map.label, MARGIN, y + 16, left - 2 * MARGIN);
      (one.rows[row] || []).forEach((value, h) => {
        context.fillStyle = colour(value);
        context.fillRect(left + h * wide, y, wide - 2, high - 2);
        context.fillStyle = letters(value);
        context.fillText(value.toFixed(2), left + h * wide + 7, y + 15);
      });
    });
  });
}

function saveStates() {
  const stage = attention.stages[state.stage], side = 460;
  return sheet(stage.length * (side + MARGIN) + MARGIN, side + 40, (context) => {
    stage.forEach((panel, number) => {
      const left = MARGIN + number * (side + MARGIN), zoom = side / SPAN;
      context.fillStyle = INK;
      context.textAlign = "left";
      context.fillText(`${byId("stage-name").textContent}: ${panelTitle(panel, stage)}`, left, 20, side);
      panel.places.forEach(([x, y], i) => {
        const token = panel.tokens[0] + i, [across, down] = place(token, x, y);
        const round = tokens[token].kind === "word";
        context.fillStyle = round ? "#0072b2" : "#e69f00";
        context.beginPath();
        if (round) context.arc(left + across * zoom, 30 + down * zoom, 6, 0, 2 * Math.PI);
        else context.rect(left + across * zoom - 6, 24 + down * zoom, 12, 12);
        context.fill();
        context.fillStyle = INK;
        context.textAlign = x > RIGHT ? "right" : "left";
        context.fillText(tokens[token].text.slice(0, 16),
          left + across * zoom + (x > RIGHT ? -9 : 9), 34 + down * zoom);
      });
    });
  });
}

const VIEWS = { "picture and words": saveScene, "matrix": saveMatrix, "heads": saveHeads,
  "all layers and heads": saveStatistics, "states": saveStates };

function buildSave() {
  for (const name of Object.keys(VIEWS).slice(0, attention ? undefined : 1)) {
    byId("view").append(make("option", { value: name }, attention ? name : "picture"));
  }
  byId("save").addEventListener("click", async () => {
    const canvas = await VIEWS[byId("view").value]();
    const name = byId("view").selectedOptions[0].text;
    canvas.toBlob((blob) => {
      const link = make("a", { download: `${name.replaceAll(" ", "-")}.png` });
      link.href = URL.createObjectURL(blob);
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    });
  });
}
