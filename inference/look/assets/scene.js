// The picture with its boxes, and the buttons of words and regions.
const buttons = []; // of each token
const boxes = []; // [light edge, box that is coloured, its number] of a region, null of others

const MANY = tokens.filter((one) => one.kind === "region").length > 15;
const area = (i) => (tokens[i].box[2] - tokens[i].box[0]) * (tokens[i].box[3] - tokens[i].box[1]);

function buildScene() {
  const { uri, width, height } = content.picture;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": "the picture with its regions, which are also listed below" });
  if (uri) svg.append(make("image", { href: uri, width, height, preserveAspectRatio: "none" }));
  svg.append(make("rect", { id: "dim", width, height, fill: "#000", "fill-opacity": 0 }));
  const drawn = make("g", { id: "drawn" }), hits = make("g");
  svg.append(drawn, hits);
  const regions = tokens.map((_, i) => i).filter((i) => tokens[i].kind === "region");
  tokens.forEach((token, i) => {
    const box = token.box;
    boxes[i] = null;
    if (token.kind === "region" && !token.special) {
      const at = { x: box[0], y: box[1], width: Math.max(box[2] - box[0], 1),
        height: Math.max(box[3] - box[1], 1) };
      const edge = make("rect", { ...at, fill: "none", "vector-effect": "non-scaling-stroke" });
      const rect = edge.cloneNode();
      const size = Math.max(width, height) / 34;
      const number = make("text", { x: box[0] + size / 4, y: Math.max(box[1], 0) + size,
        "stroke-width": size / 5 }, token.text.split(" ")[0]);
      number.style.fontSize = `${size}px`;
      boxes[i] = [edge, rect, number];
      drawn.append(...boxes[i]);
    }
    const button = make("button", { type: "button", class: "token", dir: "auto",
      "aria-pressed": "false" }, token.text);
    if (token.special) button.classList.add("special");
    if (token.joined) button.classList.add("joined");
    if (token.kind === "region" && typeof token.score === "number") {
      button.title = `probability ${percent(token.score)}`;
    }
    button.append(make("small"));
    buttons[i] = button;
    listen(button, i);
    byId(token.kind === "word" ? "words" : "regions").append(button);
  });
  // The smaller of two boxes that overlap is reached first.
  for (const i of regions.filter((i) => boxes[i]).sort((a, b) => area(b) - area(a))) {
    const [x1, y1, x2, y2] = tokens[i].box;
    const hit = make("rect", { class: "hit", x: x1, y: y1, width: Math.max(x2 - x1, 1),
      height: Math.max(y2 - y1, 1), "data-token": i });
    hit.append(make("title", {}, tokens[i].text));
    listen(hit, i);
    hits.append(hit);
  }
  byId("picture").append(svg);
  byId("words-title").hidden = !attention;
  if (attention) roving(byId("words"));
  roving(byId("regions"));
  const bar = byId("bar").getContext("2d");
  for (let x = 0; x < 120; x++) {
    bar.fillStyle = colour(x / 119);
    bar.fillRect(x, 0, 1, 1);
  }
}

// Pointing at a token or moving to it shows it, a click keeps it until the next.
function listen(element, i) {
  const preview = (token) => () => {
    if (state.preview === token) return;
    state.preview = token;
    drawTokens();
  };
  element.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") preview(i)();
  });
  element.addEventListener("pointerleave", preview(null));
  if (element.matches("button")) { // shapes would become stops of the Tab key
    element.addEventListener("focus", () => { if (element.matches(":focus-visible")) preview(i)(); });
    element.addEventListener("blur", preview(null));
  }
  element.addEventListener("click", () => {
    state.pinned = state.pinned === i ? null : i;
    state.preview = null;
    drawTokens();
  });
}

function drawTokens() {
  const token = shown(), values = valuesOf(token), scales = scalesOf(token, values);
  const share = (i) => (scales[tokens[i].kind] ? values[i] / scales[tokens[i].kind] : 0);
  byId("dim").setAttribute("fill-opacity", attention && token !== null ? 0.45 : 0);
  tokens.forEach((one, i) => {
    const button = buttons[i], known = !Number.isNaN(values[i]);
    button.setAttribute("aria-pressed", String(state.pinned === i));
    button.classList.toggle("shown", token === i);
    button.style.background = known ? colour(share(i)) : "";
    button.style.color = known ? letters(share(i)) : "";
    const score = attention || typeof one.score !== "number" ? "" : percent(one.score);
    button.lastChild.textContent = known ? percent(values[i]) : score;
    if (boxes[i]) drawBox(i, known ? share(i) : NaN, token);
  });
  const order = tokens.map((_, i) => i).filter((i) => boxes[i]);
  order.sort((a, b) => (a === token) - (b === token) || (share(a) || 0) - (share(b) || 0));
  byId("drawn").append(...order.flatMap((i) => boxes[i]));
  byId("legend").hidden = !attention || token === null;
  byId("most").textContent = ["word", "region"].filter((kind) => scales[kind])
    .map((kind) => `${percent(scales[kind])} (${kind}s)`).join(", ");
  byId("readout").textContent = told(token, values);
  if (attention) drawShown();
}

// A box by its share of the largest: colour, width and fill all grow with it.
function drawBox(i, share, token) {
  const [edge, rect, number] = boxes[i], known = !Number.isNaN(share);
  const faint = MANY ? 0.12 : 0.35; // of a hundred boxes those stand out that matter
  const plain = attention && token !== null ? "#bbb" : "#ffd43b";
  const look = i === token ? ["#fff", 3, 1] : known ? [colour(share), 1.2 + 3 * share, faint + (1 - faint) * share]
    : [plain, 1.6, token === null ? 1 : 0.5];
  rect.setAttribute("stroke", look[0]);
  rect.setAttribute("stroke-width", look[1]);
  rect.setAttribute("stroke-opacity", look[2]);
  rect.setAttribute("stroke-dasharray", i === token ? "6 4" : "none");
  edge.setAttribute("stroke", "#fff"); // dark colours on dark pictures
  edge.setAttribute("stroke-width", look[1] + 1.4);
  edge.setAttribute("stroke-opacity", known && i !== token ? (MANY ? share / 2 : 0.5) : 0);
  rect.setAttribute("fill", known ? colour(share) : "none");
  rect.setAttribute("fill-opacity", known && i !== token ? 0.5 * share : 0);
  number.setAttribute("opacity", !MANY || i === token || share > 0.5 ? 1 : 0);
}

// The sentence below the picture.
function told(token, values) {
  if (token === null) {
    return attention ? "Point at a word or a region to see what it attends to; click to keep it."
      : "Point at a region, in the picture or in the list.";
  }
  const one = tokens[token];
  if (!attention) {
    const score = typeof one.score === "number" ? `, probability ${percent(one.score)}` : "";
    return `${one.text}${score}: ${one.box.map((x) => Math.round(x)).join(", ")}`;
  }
  const found = ["word", "region"].map((kind) => {
    const some = tokens.map((_, i) => i).filter((i) => tokens[i].kind === kind && values[i] >= 0);
    some.sort((a, b) => values[b] - values[a]);
    return some.slice(0, 3).map((i) => `${quoted(i)} ${percent(values[i])}`).join(", ");
  });
  const missing = ["words", "regions"].filter((_, i) => !found[i]);
  const verb = state.direction === "out" ? "looks at" : "is looked at by";
  const lacking = missing.length ? `, no attention with ${missing.join(" or ")} at this level` : "";
  return `${quoted(token)} ${verb} ${found.filter(Boolean).join("; ")}${lacking}. ${source(token)}`;
}

// Which numbers these are.
function source(token) {
  const side = state.direction === "out" ? "queries" : "keys";
  const parts = chosen().filter(([map]) => within(token, map[side])).map(([map, head]) => {
    if (map.kind === "rollout") return map.label;
    return `${map.label}, ${head === "mean" ? `mean over ${map.heads} heads` : `head ${head + 1}`}`;
  });
  return parts.length ? `(${parts.join("; ")})` : "";
}
