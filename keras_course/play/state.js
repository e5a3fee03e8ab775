// --- settings and state -----------------------------------------------------------------------------------------

const COURSE = JSON.parse(document.getElementById("course").textContent);
const SURFACES = makeSurfaces(COURSE);
const REDUCED_MOTION = window.matchMedia("(prefers-reduced-motion: reduce)");

const MOST_STEPS = 1000;
const GREATEST_SEED = 2 ** 32 - 1;
const FARTHEST_TAP = 10; // pixels between touch and release; a longer way is not a tap
const SETTLED_AFTER = 150; // milliseconds without a change, before message, table and link are updated
const PLAY_SECONDS = 6; // the longest time for a whole path
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

// The settings by their names in the link; `result` is computed from them, and `shown` is the step that is shown.
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

// Returns round step sizes of about 1/count of the width and of the height of the surface.
function startSteps(count) {
  const [left, right, bottom, top] = SURFACES[settings.surface].bounds;
  return [niceStep((right - left) / count), niceStep((top - bottom) / count)];
}

// Returns the nearest start inside the picture.
function insideStart(start) {
  const { bounds } = SURFACES[settings.surface];
  return start.map((value, i) => clamp(tidy(value), bounds[2 * i], bounds[2 * i + 1]));
}

// --- validation

function isWhole(value, low, high) {
  return Number.isInteger(value) && value >= low && value <= high;
}

// Returns what to do about an invalid value, "" for a valid one.
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

// Each number field: its title, how it is read from the settings, and how it changes them; for numbers that are not
// whole also the step of an arrow key, where the browser would add 1.
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

// --- changing the settings

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

// --- animation

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
