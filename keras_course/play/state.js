// --- what is chosen ---------------------------------------------------------------------------------------------

const COURSE = JSON.parse(document.getElementById("course").textContent);
const SURFACES = makeSurfaces(COURSE);
const REDUCED_MOTION = window.matchMedia("(prefers-reduced-motion: reduce)");

const MOST_STEPS = 1000;
const GREATEST_SEED = 2 ** 32 - 1;
const FARTHEST_TAP = 10; // pixels between down and up; a finger that goes farther does not mean the point
const SETTLED_AFTER = 150; // milliseconds without a change; then it is said, linked and tabled
const PLAY_SECONDS = 6; // a whole path takes at most so long
const SLOWEST_STEPS_A_SECOND = 5;

const SURFACE_TEXTS = {
  long_valley: "Twenty times steeper across than along: a learning rate that is small enough across is too small along.",
  curved_valley: "A valley along a parabola with a slight slope.",
  several_minima: "Four minima of three depths: the start decides which one is found.",
};

const PRESETS = {
  one_step: { surface: "two_points", optimizer: "sgd", rate: 0.1, steps: 1 },
  diverges: { surface: "two_points", optimizer: "sgd", rate: 2, steps: 50 },
  crawls: { surface: "two_points", optimizer: "sgd", rate: 0.001, steps: 50 },
  wanders: { surface: "ten_points", optimizer: "sgd", rate: 0.005, batch: 1, steps: 200 },
  valley: { surface: "long_valley", optimizer: "momentum", rate: 0.02, steps: 100 },
};

const byId = (id) => document.getElementById(id);

// By the names that a link has for them; `result` follows from them, and `shown` is the step in sight.
const settings = {};
let result = null;
let shown = 0;

function defaults(surfaceName) {
  const surface = SURFACES[surfaceName];
  return { surface: surfaceName, start: surface.start, rate: surface.learning_rate, batch: sampleCount(surface) || 1 };
}

function lastStep() {
  return result.places.length - 1;
}

// Round distances on the surface of which about so many go across it and along it.
function startSteps(count) {
  const [left, right, bottom, top] = SURFACES[settings.surface].bounds;
  return [niceStep((right - left) / count), niceStep((top - bottom) / count)];
}

// The nearest start that is inside the picture.
function insideStart(start) {
  const { bounds } = SURFACES[settings.surface];
  return start.map((value, i) => clamp(tidy(value), bounds[2 * i], bounds[2 * i + 1]));
}

// --- what is right, and what is said about what is not

function isWhole(value, low, high) {
  return Number.isInteger(value) && value >= low && value <= high;
}

// What to do about a value, or "" if it is right.
function remedy(name, value) {
  const surface = SURFACES[settings.surface];
  const between = (low, high) => `a number from ${formatNumber(low, 15)} to ${formatNumber(high, 15)}`;
  const whole = (low, high) => (isWhole(value, low, high) ? "" : `give a whole number from ${low} to ${high}`);
  switch (name) {
    case "rate":
      return value > 0 && Number.isFinite(value) ? "" : "give a number above 0";
    case "batch":
      return whole(1, sampleCount(surface) || 1);
    case "steps":
      return whole(1, MOST_STEPS);
    case "seed":
      return whole(0, GREATEST_SEED);
    default: {
      const [low, high] = surface.bounds.slice(name === "first" ? 0 : 2);
      return value >= low && value <= high ? "" : `give ${between(low, high)}`;
    }
  }
}

// Each number field: its name for people, how it is read from the settings, and what it changes in them; and for those
// that are not whole, how far an arrow key goes, where the browser would add 1.
const FIELDS = {
  rate: {
    title: () => "Learning rate",
    get: () => settings.rate,
    set: (rate) => change({ rate }),
    arrow: () => niceStep(settings.rate / 10),
  },
  batch: { title: () => "Batch size", get: () => settings.batch, set: (batch) => change({ batch }) },
  steps: { title: () => "Steps", get: () => settings.steps, set: (steps) => change({ steps }) },
  seed: { title: () => "Seed", get: () => settings.seed, set: (seed) => change({ seed }) },
  first: {
    title: () => `Start ${SURFACES[settings.surface].labels[0]}`,
    get: () => settings.start[0],
    set: (value) => change({ start: [value, settings.start[1]] }),
    arrow: () => startSteps(100)[0],
  },
  second: {
    title: () => `Start ${SURFACES[settings.surface].labels[1]}`,
    get: () => settings.start[1],
    set: (value) => change({ start: [settings.start[0], value] }),
    arrow: () => startSteps(100)[1],
  },
};

const SLIDERS = {
  rate: { toValue: (place) => Number((10 ** place).toPrecision(3)), toPlace: (value) => Math.log10(value) },
  batch: { toValue: Number, toPlace: Number },
  steps: { toValue: Number, toPlace: Number },
};

function showError(name, text) {
  byId(name).setAttribute("aria-invalid", String(text !== ""));
  if (byId(`${name}-error`).textContent !== text) {
    byId(`${name}-error`).textContent = text;
  }
}

function readField(name) {
  const input = byId(name);
  const value = input.value === "" ? NaN : Number(input.value);
  const todo = remedy(name, value);
  if (todo) {
    const what = Number.isNaN(value) ? "no number" : formatNumber(value, 15);
    showError(name, `${FIELDS[name].title()} is ${what}: ${todo}. Shown is ${formatNumber(FIELDS[name].get(), 15)}.`);
  } else {
    showError(name, "");
    FIELDS[name].set(value);
  }
}

// --- changing what is chosen

function change(patch) {
  const wasAtEnd = result === null || shown === lastStep();
  stop();
  byId("link-error").textContent = "";
  Object.assign(settings, patch);
  result = run(settings);
  shown = wasAtEnd ? lastStep() : Math.min(shown, lastStep());
  render();
}

function show(step) {
  shown = clamp(step, 0, lastStep());
  render();
}

function run({ surface, optimizer, start, rate, batch, steps, seed }) {
  const numbers = { start, learningRate: rate, batchSize: batch, steps, seed };
  return descend(SURFACES[surface], COURSE.rules[optimizer], numbers, COURSE.shuffle);
}

// --- playing

let frame = 0;

function stop() {
  window.cancelAnimationFrame(frame);
  frame = 0;
  byId("play").textContent = "Play";
}

function play() {
  const first = shown === lastStep() ? 0 : shown;
  if (REDUCED_MOTION.matches) {
    show(lastStep());
    return;
  }
  const stepsASecond = Math.max(SLOWEST_STEPS_A_SECOND, result.places.length / PLAY_SECONDS);
  let began = null;
  const advance = (now) => {
    began ??= now;
    show(first + Math.floor(((now - began) / 1000) * stepsASecond));
    if (shown < lastStep()) {
      frame = window.requestAnimationFrame(advance);
    } else {
      stop();
    }
  };
  byId("play").textContent = "Pause";
  frame = window.requestAnimationFrame(advance);
}
