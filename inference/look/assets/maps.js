// Attention as numbers: unpacked maps, means over heads, values of a token, largest of a layer.
const tokens = content.tokens;
const quoted = (i) => (tokens[i].kind === "word" ? `“${tokens[i].text}”` : tokens[i].text);

let attention = null; // what content.attention holds, with `values` and `scales` in each map

async function unpack() {
  const found = content.attention;
  if (!found) return;
  const buffer = await unpacked(found.blob);
  const size = tokens.length;
  const scales = new Float32Array(buffer, 0, found.scales);
  let scale = 0, byte = 4 * found.scales;
  function take(map) {
    const rows = map.heads * (map.queries[1] - map.queries[0]);
    const numbers = rows * (map.keys[1] - map.keys[0]);
    map.scales = scales.subarray(scale, scale + rows);
    map.bytes = new Uint8Array(buffer, byte, numbers);
    scale += rows;
    byte += numbers;
    return map;
  }
  found.maps.forEach(take);
  const all = [0, size];
  found.rollouts = found.levels.map((label, level) => take({ level, kind: "rollout",
    label: `rollout up to ${label}`, queries: all, keys: all, heads: 1 }));
  attention = found;
}

// Float32Array [queries · keys] of a head of a map, or of the mean over its heads.
const made = new Map();
function matrix(map, head) {
  const key = `${map.kind} ${map.level} ${head}`;
  if (made.has(key)) return made.get(key);
  const rows = map.queries[1] - map.queries[0], columns = map.keys[1] - map.keys[0];
  const out = new Float32Array(rows * columns);
  const heads = head === "mean" ? [...Array(map.heads).keys()] : [head];
  for (const h of heads) {
    for (let row = 0; row < rows; row++) {
      const scale = map.scales[h * rows + row] / 255 / heads.length;
      const start = (h * rows + row) * columns;
      for (let i = 0; i < columns; i++) out[row * columns + i] += scale * map.bytes[start + i];
    }
  }
  made.set(key, out);
  return out;
}

const within = (token, span) => token >= span[0] && token < span[1];

// What is chosen: level, head ("mean", "rollout" or a number) of the maps of `kind`, direction
// ("out": a token looks, "in": it is looked at), scale ("layer" or "token"), tokens.
const state = { level: 0, head: "mean", kind: "", direction: "out", scale: "layer", pinned: null,
  preview: null, stage: 0, statistic: 0 };
const shown = () => (state.preview === null ? state.pinned : state.preview);

const mapsHere = () => attention.maps.filter((map) => map.level === state.level);

// The map whose heads are shown: of the chosen kind where the level has one.
const mapShown = () => mapsHere().find((map) => map.kind === state.kind) || mapsHere()[0];

// [[map, head]] by which tokens are coloured: the chosen head of its map, means of the others.
function chosen() {
  if (state.head === "rollout") return [[attention.rollouts[state.level], 0]];
  const main = mapShown();
  return mapsHere().map((map) => [map, map === main && state.head < map.heads ? state.head : "mean"]);
}

// Number between a token and each other one, NaN where no map has the two.
function valuesOf(token) {
  const out = new Float32Array(tokens.length).fill(NaN);
  if (!attention || token === null) return out;
  for (const [map, head] of chosen()) {
    const [from, to] = state.direction === "out" ? [map.queries, map.keys] : [map.keys, map.queries];
    if (!within(token, from)) continue;
    const numbers = matrix(map, head), columns = map.keys[1] - map.keys[0];
    for (let other = to[0]; other < to[1]; other++) {
      const [q, k] = state.direction === "out" ? [token, other] : [other, token];
      out[other] = numbers[(q - map.queries[0]) * columns + (k - map.keys[0])];
    }
  }
  return out;
}

// Largest number between tokens of one kind and of another, in the chosen maps and direction.
function largest(kind, other) {
  let most = 0;
  const [asking, answering] = state.direction === "out" ? [kind, other] : [other, kind];
  for (const [map, head] of chosen()) {
    const numbers = matrix(map, head), columns = map.keys[1] - map.keys[0];
    for (let q = map.queries[0]; q < map.queries[1]; q++) {
      if (tokens[q].kind !== asking) continue;
      for (let k = map.keys[0]; k < map.keys[1]; k++) {
        if (tokens[k].kind !== answering) continue;
        most = Math.max(most, numbers[(q - map.queries[0]) * columns + k - map.keys[0]]);
      }
    }
  }
  return most;
}

// {word, region}: what the colours of the shown token's words and regions are scaled by.
function scalesOf(token, values) {
  const out = { word: 0, region: 0 };
  if (!attention || token === null) return out;
  if (state.scale === "layer") {
    for (const other of ["word", "region"]) out[other] = largest(tokens[token].kind, other);
  } else {
    values.forEach((value, i) => {
      if (value > out[tokens[i].kind]) out[tokens[i].kind] = value;
    });
  }
  return out;
}
