// The examples: what each is a kind of, which are shown, in which order, and how many are right.
let examples = [];
const runs = content.runs;
const kinds = new Map(); // {what examples are a kind of: the kinds, in order}

const state = { search: "", verdict: "all", groups: {}, low: 0, high: 100, run: 0, sort: "file", pair: null,
  page: 0, size: 25 };
const answer = (example) => example.answers[state.run];
const share = (value) => `${(100 * value).toFixed(1)} %`;
const count = (number) => number.toLocaleString("en");

// Ranges of whole numbers with about as many examples in each: [[lowest, highest], ...].
function ranges(numbers, most) {
  const sorted = [...numbers].sort((a, b) => a - b), out = [];
  const distinct = [...new Set(sorted)];
  if (distinct.length <= most) return distinct.map((one) => [one, one]);
  for (let part = 1; part <= most; part++) {
    const high = sorted[Math.ceil((part * sorted.length) / most) - 1];
    const low = out.length ? distinct.find((one) => one > out[out.length - 1][1]) : sorted[0];
    if (low <= high) out.push([low, high]);
  }
  return out;
}

const REGIONS = "number of regions", WORDS = "words of the text", CONFIDENCE = "confidence";
const words = (example) => example.text.split(/\s+/).filter(Boolean).length;

// Puts every example into its kinds: those that the data set names, and ranges of numbers.
function sortIntoKinds() {
  const names = new Set(examples.flatMap((one) => Object.keys(one.groups)));
  for (const name of names) {
    const counts = new Map();
    for (const one of examples) {
      const kind = one.groups[name];
      if (kind !== undefined) counts.set(kind, (counts.get(kind) || 0) + 1);
    }
    kinds.set(name, [...counts].sort((a, b) => b[1] - a[1]).map(([kind]) => kind));
  }
  for (const [name, number] of [[REGIONS, (one) => one.regions], [WORDS, words]]) {
    const bounds = ranges(examples.map(number), 8);
    const label = ([low, high]) => (low === high ? String(low) : `${low}–${high}`);
    for (const one of examples) one.groups[name] = label(bounds.find(([, high]) => number(one) <= high));
    kinds.set(name, bounds.map(label));
  }
  if (examples.some((one) => one.answers.some((found) => found.confidence !== null))) {
    const bins = [...Array(10).keys()].map((i) => `${10 * i}–${10 * i + 10} %`);
    kinds.set(CONFIDENCE, bins);
    for (const one of examples) {
      one.bins = one.answers.map(({ confidence }) => (confidence === null ? undefined
        : bins[Math.min(Math.floor(10 * confidence), 9)]));
    }
  }
}

const kindOf = (example, name) => (name === CONFIDENCE ? example.bins[state.run] : example.groups[name]);

// The choices by right and wrong: [value, text, which examples].
function verdicts() {
  const right = (one, i) => one.answers[i].right;
  const known = (one) => one.answers.every((found) => found.right !== null);
  const unknown = ["unknown", "truth unknown", (one) => !known(one)];
  if (runs.length === 1) {
    return [["all", "all", () => true], ["right", "✓ right", (one) => right(one, 0) === true],
      ["wrong", "✗ wrong", (one) => right(one, 0) === false], unknown];
  }
  return [["all", "all", () => true],
    ["first", `only ${runs[0]} is right`, (one) => known(one) && right(one, 0) && !right(one, 1)],
    ["second", `only ${runs[1]} is right`, (one) => known(one) && !right(one, 0) && right(one, 1)],
    ["both", "both are right", (one) => known(one) && right(one, 0) && right(one, 1)],
    ["neither", "both are wrong", (one) => known(one) && !right(one, 0) && !right(one, 1)],
    ["differ", "answers differ", (one) => one.answers[0].predicted !== one.answers[1].predicted],
    unknown];
}

function matchesSearch(example) {
  if (!state.search) return true;
  if (example.searched === undefined) {
    const parts = [example.id, example.text, example.true, ...example.images.map(([id]) => id)];
    for (const one of example.answers) parts.push(one.predicted, ...one.lines.map(([, text]) => text));
    example.searched = parts.join("\n").toLowerCase();
  }
  return state.search.toLowerCase().split(/\s+/).every((word) => example.searched.includes(word));
}

// Examples that all choices but that of right and wrong leave: what accuracies are of. `without`
// names one more choice to leave out, a kind or "pair".
function base(without) {
  const low = state.low / 100, high = state.high / 100, open = low <= 0 && high >= 1;
  return examples.filter((one) => {
    const { confidence, predicted } = answer(one);
    if (!open && !(confidence !== null && confidence >= low && confidence <= high)) return false;
    for (const [name, kind] of Object.entries(state.groups)) {
      if (name !== without && kindOf(one, name) !== kind) return false;
    }
    if (state.pair && without !== "pair" && (one.true !== state.pair[0] || predicted !== state.pair[1])) return false;
    return matchesSearch(one);
  });
}

// {value: [text, key of an example, whether large ones come first]}; unknown numbers come last.
const SORTS = { file: ["order of the file", null, false], loss: ["loss, largest first", "loss", true],
  "low-loss": ["loss, smallest first", "loss", false],
  sure: ["confidence, highest first", "confidence", true],
  unsure: ["confidence, lowest first", "confidence", false],
  regions: ["regions, most first", "regions", true], few: ["regions, fewest first", "regions", false] };

function sorted(found) {
  const [, key, descending] = SORTS[state.sort];
  if (!key) return found;
  const number = (one) => (key === "regions" ? one.regions : answer(one)[key]);
  const turn = descending ? -1 : 1;
  return [...found].sort((a, b) => {
    const [x, y] = [number(a), number(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return turn * (x - y);
  });
}

// Mean score of a run on examples whose truth is known, and how many these are.
function accuracy(found, run) {
  const known = found.map((one) => one.answers[run].score).filter((score) => score !== null);
  return [known.reduce((sum, score) => sum + score, 0) / known.length, known.length];
}
