// --- event handlers ---------------------------------------------------------------------------------------------

function makeChips(group, choices, choose) {
  const chips = Object.entries(choices).map(([name, { title }]) => {
    const input = make("input", { type: "radio", name: group, value: name });
    input.addEventListener("change", () => choose(name));
    return make("label", {}, input, title);
  });
  byId(`${group}s`).append(...chips);
}

// Converts a position on the stage, in pixels, to a start inside the picture with few digits.
function startAt(x, y) {
  const steps = startSteps(1000);
  const point = [picture.toX.invert(x), picture.toY.invert(y)];
  return insideStart(point.map((value, i) => Math.round(value / steps[i]) * steps[i]));
}

function wireHandle() {
  const [stage, handle] = [byId("stage"), byId("handle")];
  let grip = null; // offset from the pointer to the center of the handle, while it is dragged
  let tap = null; // where a finger touched the surface: it may start to scroll
  const inStage = (event) => {
    const frameOfStage = stage.getBoundingClientRect();
    return [event.clientX - frameOfStage.left, event.clientY - frameOfStage.top];
  };
  stage.addEventListener("pointerdown", (event) => {
    const [x, y] = inStage(event);
    const isOnHandle = handle.contains(event.target);
    if (event.button !== 0 || !(isOnHandle || event.target === byId("ground"))) {
      return;
    }
    if (!isOnHandle && event.pointerType !== "mouse") {
      tap = [x, y];
      return;
    }
    event.preventDefault();
    if (!isOnHandle) {
      change({ start: startAt(x, y) });
    }
    grip = [picture.toX(settings.start[0]) - x, picture.toY(settings.start[1]) - y];
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    if (grip) {
      const [x, y] = inStage(event);
      change({ start: startAt(x + grip[0], y + grip[1]) });
    }
  });
  stage.addEventListener("pointerup", (event) => {
    const [x, y] = inStage(event);
    if (tap && Math.hypot(x - tap[0], y - tap[1]) <= FARTHEST_TAP) {
      change({ start: startAt(x, y) });
    }
  });
  for (const ending of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(ending, () => ([grip, tap] = [null, null]));
  }
  handle.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const way = ways[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    const steps = startSteps(event.shiftKey ? 10 : 100);
    change({ start: insideStart(settings.start.map((value, i) => value + way[i] * steps[i])) });
  });
}

function wireControls() {
  makeChips("surface", SURFACES, (name) => change(defaults(name)));
  makeChips("optimizer", COURSE.rules, (optimizer) => change({ optimizer }));
  for (const [name, { arrow, get }] of Object.entries(FIELDS)) {
    byId(name).addEventListener("input", () => readField(name));
    byId(name).addEventListener("keydown", (event) => {
      const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (arrow && way) {
        event.preventDefault();
        byId(name).value = String(tidy(get() + way * arrow()));
        readField(name);
      }
    });
  }
  for (const [name, { toValue }] of Object.entries(SLIDERS)) {
    byId(`${name}-slider`).addEventListener("input", (event) => FIELDS[name].set(toValue(event.target.value)));
  }
  for (const button of document.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => {
      const preset = PRESETS[button.dataset.preset];
      change({ ...defaults(preset.surface), ...preset });
      show(lastStep());
    });
  }
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
}

function wireTransport() {
  byId("play").addEventListener("click", () => {
    if (frame) {
      stop();
      render();
    } else {
      play();
    }
  });
  byId("one-step").addEventListener("click", () => {
    stop();
    show(shown === lastStep() ? 1 : shown + 1);
  });
  byId("reset").addEventListener("click", () => {
    stop();
    show(0);
  });
  byId("shown").addEventListener("input", (event) => {
    stop();
    show(Number(event.target.value));
  });
  byId("table-box").addEventListener("toggle", showTable);
}

wireHandle();
wireControls();
wireTransport();
readLink();
window.addEventListener("hashchange", readLink);
new ResizeObserver(render).observe(byId("stage"));

// For the tests and the browser's console: the numbers without the picture.
window.keras_course = {
  surfaces: SURFACES,
  permutation: (seed, size, epoch) => permutation(shuffleKey(seed, COURSE.shuffle), size, epoch),
  descend(choice) {
    const { places, diverged } = run({ ...defaults(choice.surface), optimizer: "sgd", steps: 50, seed: 0, ...choice });
    return {
      path: places.map((place) => place.point),
      losses: places.map((place) => place.loss),
      gradients: places.map((place) => place.gradient),
      batches: places.slice(0, -1).map((place) => (place.batch ? place.batch.rows : null)),
      batch_losses: places.slice(0, -1).map((place) => (place.batch || place).loss),
      diverged,
    };
  },
};
