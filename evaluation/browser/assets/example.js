// One example: pictures with boxes, all lines, what the runs say, and its attention.
let opened = null; // its place in the list

const MENTIONED = content.mentioned;

function openExample(place) {
  opened = place;
  const one = found[place];
  byId("example-title").textContent = one.text || one.id;
  byId("example-id").textContent = [one.id, ...one.images.map(([id]) => `image ${id}`), `${one.regions} regions`,
    ...Object.entries(one.groups).filter(([name]) => ![REGIONS, WORDS].includes(name))
      .map(([name, kind]) => `${name}: ${kind}`)].join(" · ");
  byId("example-place").textContent = `${count(place + 1)} of ${count(found.length)}`;
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === found.length - 1;
  byId("example-pictures").replaceChildren(...one.images.flatMap((image, i) => {
    const different = JSON.stringify(one.answers[0].boxes) !== JSON.stringify(one.answers.at(-1).boxes);
    const shown = i === 0 && different ? one.answers : one.answers.slice(0, 1);
    return shown.map((found, run) => drawn(image, i === 0 ? found.boxes : [],
      shown.length > 1 ? `${runs[run]}, ${image[0]}` : image[0]));
  }));
  const there = new Set(one.answers.flatMap((found) => found.boxes.map((box) => box[5])));
  byId("example-legend").replaceChildren(...Object.entries(content.styles).filter(([kind]) => there.has(kind))
    .map(([, style]) => {
      const item = make("li"), svg = make("svg", { viewBox: "0 0 36 16", "aria-hidden": "true" });
      svg.append(make("rect", { x: 2, y: 2, width: 32, height: 12, fill: "none", stroke: style.colour,
        "stroke-width": 3, "stroke-dasharray": style.dashes || "none" }));
      item.append(svg, ` ${style.meaning}`);
      return item;
    }));
  byId("example-answers").replaceChildren(...one.answers.map(answerPart));
  drawAttention(one);
  if (!byId("example").open) byId("example").showModal();
}

function answerPart(found, run) {
  const part = make("div"), [verdict, label] = VERDICTS.get(found.right);
  if (runs.length > 1) part.append(make("h3", { dir: "auto" }, runs[run]));
  part.append(make("p", { class: `mark ${verdict}` }, label));
  const list = make("dl");
  const facts = [...found.lines];
  if (found.score !== null && found.score > 0 && found.score < 1) facts.push(["accuracy", share(found.score)]);
  if (found.loss !== null) facts.push(["loss", found.loss.toPrecision(4)]);
  for (const [name, text] of facts) list.append(make("dt", { dir: "auto" }, name), make("dd", { dir: "auto" }, text));
  part.append(list);
  return part;
}

function drawn([id, height, width], boxes, name) {
  const figure = make("figure"), uri = content.pictures[id];
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name}: ${boxes.map((box) => `${content.styles[box[5]].meaning} ${box[4]}`).join("; ") || "no boxes"}` });
  if (uri) svg.append(make("image", { href: uri, width, height, preserveAspectRatio: "none" }));
  const order = Object.keys(content.styles), size = Math.max(width, height) / 28;
  let mentioned = 0;
  for (const [x1, y1, x2, y2, label, kind] of [...boxes].sort((a, b) => order.indexOf(a[5]) - order.indexOf(b[5]))) {
    const style = content.styles[kind];
    const stroke = kind === "mentioned" ? MENTIONED[mentioned++ % MENTIONED.length] : style.colour;
    const at = { x: x1, y: y1, width: Math.max(x2 - x1, 1), height: Math.max(y2 - y1, 1), fill: "none",
      "vector-effect": "non-scaling-stroke" };
    svg.append(make("rect", { ...at, stroke: "#fff", "stroke-width": 5.5 }),
      make("rect", { ...at, stroke, "stroke-width": 3, "stroke-dasharray": style.dashes || "none" }));
    const text = make("text", { x: Math.max(x1, 0) + size / 5, y: Math.max(y1, 0) + size, "stroke-width": size / 4,
      direction: "ltr" }, label);
    text.style.fontSize = `${size}px`;
    svg.append(text);
  }
  figure.append(svg, make("figcaption", { dir: "auto" }, uri ? name : `${name} (no picture in the page)`));
  return figure;
}

// A word as shells take it, whatever is in it.
const shell = (word) => (/^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function drawAttention(one) {
  const place = byId("example-attention"), pages = content.attention[`${one.stream}\n${one.id}`] || [];
  place.replaceChildren();
  if (pages.length) {
    place.append(make("h3", {}, "Attention"));
    for (const [label, href] of pages) place.append(make("a", { href, target: "_blank", rel: "noopener" }, label), " ");
  } else if (content.place) {
    place.append(make("p", { class: "faint" }, "This writes a page of its attention:"));
    const words = ["python", "-m", "inference", content.place, "look", `--example=${one.id}`, `--task=${one.stream}`,
      ...(content.splits[one.stream] ? [`--split=${content.splits[one.stream]}`] : []), "--out=attention.html"];
    place.append(make("code", {}, words.map(shell).join(" ")));
  }
}

function step(by) {
  const place = opened + by;
  if (found[place]) openExample(place);
}

function listenToExample() {
  const dialog = byId("example");
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    step(by);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => rowButton(opened)?.focus());
}
