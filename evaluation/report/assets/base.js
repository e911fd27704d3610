// Elements, colours and keys that all pages share.
const content = JSON.parse(document.getElementById("content").textContent);
const byId = (id) => document.getElementById(id);

// Texts go into elements as text, never as markup.
function make(tag, attributes = {}, text) {
  const svg = ["svg", "rect", "circle", "image", "text", "g", "title", "line"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Viridis: light and dark alone tell small from large, so that colour-blind readers see it too.
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58",
  "b5de2b", "fde725"].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

function rgb(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((a, i) => Math.round(a + (at - low) * (VIRIDIS[low + 1][i] - a)));
}

const colour = (share) => `rgb(${rgb(share).join(",")})`;

// Letters that can be read on a colour.
function letters(share) {
  const [r, g, b] = rgb(share);
  return 0.299 * r + 0.587 * g + 0.114 * b > 130 ? "#000" : "#fff";
}

function percent(value) {
  const share = 100 * value;
  return `${share > 0 && share < 9.95 ? share.toFixed(1) : Math.round(share)}%`;
}

// One tab stop for a group of buttons; arrows move within it. columns(): buttons in a row, for
// groups that are tables.
function roving(group, columns) {
  const buttons = () => [...group.querySelectorAll("button")];
  const only = (chosen) => buttons().forEach((b) => { b.tabIndex = b === chosen ? 0 : -1; });
  group.addEventListener("focusin", (event) => {
    if (event.target.matches("button")) only(event.target);
  });
  group.addEventListener("keydown", (event) => {
    const all = buttons(), at = all.indexOf(event.target), row = columns ? columns() : 1;
    const rtl = getComputedStyle(group).direction === "rtl" ? -1 : 1;
    const to = { ArrowRight: at + rtl, ArrowLeft: at - rtl, ArrowDown: at + row,
      ArrowUp: at - row, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (all[to]) all[to].focus();
  });
  if (!buttons().some((b) => b.getAttribute("tabindex") === "0")) only(buttons()[0]);
}

// What `static_page.packed` made of bytes.
async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The title, lines and notes that every page has.
function introduce() {
  document.title = content.title;
  byId("title").textContent = content.title;
  byId("lines").append(...content.lines.map((line) => make("p", { dir: "auto" }, line)));
  byId("notes").append(...content.notes.map((note) => make("p", { class: "note", dir: "auto" }, note)));
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
}

// A browser from before 2023 has no DecompressionStream.
function begin(start) {
  start().catch((error) => {
    const text = `This browser cannot draw the page: ${error.message}. Open it in a newer one.`;
    byId("notes").append(make("p", { class: "note" }, text));
    throw error;
  });
}
