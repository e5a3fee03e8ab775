// --- links ------------------------------------------------------------------------------------------------------

function writeLink() {
  const { surface, start, rate, batch, optimizer, steps, seed } = settings;
  const parts = { surface, start: start.join(), rate, batch, optimizer, steps, seed, at: shown };
  const hash = Object.entries(parts).map(([name, value]) => `${name}=${value}`).join("&");
  if (window.location.hash !== `#${hash}`) {
    window.history.replaceState(null, "", `#${hash}`);
  }
}

// Reads the settings from the link; a message names the invalid ones, which are ignored.
function readLink() {
  const link = new URLSearchParams(window.location.hash.slice(1));
  const wrong = [];
  const known = (name, choices, otherwise) => {
    const value = link.get(name);
    if (value !== null && !Object.hasOwn(choices, value)) {
      wrong.push(name);
    }
    return Object.hasOwn(choices, value) ? value : otherwise;
  };
  const surface = known("surface", SURFACES, "two_points");
  const optimizer = known("optimizer", COURSE.rules, "sgd");
  Object.assign(settings, { ...defaults(surface), optimizer, steps: 50, seed: 0 });
  for (const name of ["rate", "batch", "steps", "seed"]) {
    const value = Number(link.get(name) || NaN);
    if (link.has(name) && remedy(name, value)) {
      wrong.push(name);
    } else if (link.has(name)) {
      settings[name] = value;
    }
  }
  const start = (link.get("start") ?? "").split(",").map((text) => (text.trim() ? Number(text) : NaN));
  if (start.length === 2 && !remedy("first", start[0]) && !remedy("second", start[1])) {
    settings.start = start;
  } else if (link.has("start")) {
    wrong.push("start");
  }
  stop();
  result = run(settings);
  const at = Number(link.get("at") || NaN);
  if (link.has("at") && !isWhole(at, 0, MOST_STEPS)) {
    wrong.push("at");
  }
  show(isWhole(at, 0, MOST_STEPS) ? at : lastStep());
  byId("link-error").textContent = wrong.length
    ? `These settings of the link are not valid and are ignored: ${wrong.join(", ")}.`
    : "";
}
