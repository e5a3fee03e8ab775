// --- rendering --------------------------------------------------------------------------------------------------

let settled = 0;

function render() {
  drawSurface();
  drawCharts();
  syncControls();
  showReadout();
  window.clearTimeout(settled);
  settled = window.setTimeout(settle, SETTLED_AFTER);
}

// Updates what a screen reader reads and what is slow, as soon as nothing moves.
function settle() {
  if (frame) {
    return;
  }
  const text = messageText();
  byId("message").classList.toggle("diverged", result.diverged !== null && shown === lastStep());
  if (byId("message").textContent !== text) {
    byId("message").textContent = text;
  }
  byId("loss-chart").setAttribute("aria-label", lossLabel());
  showTable();
  writeLink();
}

const picture = { levels: null, painted: "", box: null, toX: null, toY: null };

function layOutSurface() {
  const surface = SURFACES[settings.surface];
  const stage = byId("stage");
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const wanted = [surface.name, width, height, scale].join();
  if (picture.painted === wanted || !width) {
    return;
  }
  const box = { left: 58, right: width - 6, top: 6, bottom: height - 44 };
  const [left, right, bottom, top] = surface.bounds;
  const [toX, toY] = [linearScale(left, right, box.left, box.right), linearScale(bottom, top, box.bottom, box.top)];
  const ground = byId("ground");
  Object.assign(ground.style, {
    left: `${box.left}px`, top: `${box.top}px`, width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px`,
  });
  const levels = paintSurface(ground, surface, box.right - box.left, box.bottom - box.top, scale);
  const clip = shape("clipPath", { id: "ground-clip" });
  clip.append(shape("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
  const descent = shape("g", { id: "descent", "clip-path": "url(#ground-clip)" });
  byId("drawing").replaceChildren(clip, ...surfaceFrame(surface, box, toX, toY), descent);
  Object.assign(picture, { levels, painted: wanted, box, toX, toY });
  drawScale(levels);
}

function drawScale(levels) {
  const canvas = byId("scale");
  const context = canvas.getContext("2d");
  for (let band = 0; band < BANDS; band++) {
    context.fillStyle = `rgb(${rampColor(band / (BANDS - 1)).map(Math.round).join()})`;
    context.fillRect(Math.round((band * canvas.width) / BANDS), 0, Math.ceil(canvas.width / BANDS), canvas.height);
  }
  const [least, greatest] = [levels.loss(0), levels.loss(1)];
  byId("least").textContent = `loss ${formatNumber(Math.abs(least) < 1e-6 * greatest ? 0 : least, 3)}`;
  byId("greatest").textContent = formatNumber(greatest, 3);
}

function drawSurface() {
  layOutSurface();
  if (!picture.box) {
    return;
  }
  const points = result.places.slice(0, shown + 1).map((place) => place.point);
  byId("descent").replaceChildren(...descentShapes(points, picture.toX, picture.toY));
  const [x, y] = settings.start;
  const handle = byId("handle");
  Object.assign(handle.style, { left: `${picture.toX(x)}px`, top: `${picture.toY(y)}px` });
  const { labels, bounds } = SURFACES[settings.surface];
  const place = `${labels[0]} = ${formatNumber(x)}, ${labels[1]} = ${formatNumber(y)}`;
  const said = { label: "Start", valuemin: bounds[0], valuemax: bounds[1], valuenow: x, valuetext: place };
  for (const [name, value] of Object.entries(said)) {
    handle.setAttribute(`aria-${name}`, value);
  }
}

function drawCharts() {
  const surface = SURFACES[settings.surface];
  const place = result.places[shown];
  const chart = byId("loss-chart");
  if (chart.clientWidth) {
    const parts = lossChart(chart.clientWidth, chart.clientHeight, result.places, shown, surface.data ? "MSE" : "loss");
    chart.replaceChildren(...parts);
  }
  const line = byId("line-chart");
  line.toggleAttribute("hidden", !surface.data);
  if (surface.data && line.clientWidth) {
    const rows = place.batch && place.batch.rows;
    line.replaceChildren(
      ...lineChart(line.clientWidth, line.clientHeight, surface.data, settings.start, place.point, rows),
    );
    const [m, b] = place.point.map((value) => formatNumber(value));
    line.setAttribute("aria-label", `The points, and the line ŷ = m x + b with m = ${m} and b = ${b}`);
  }
}

function lossName(surface) {
  return surface.data ? "mean squared error" : "loss";
}

function isMiniBatch() {
  return settings.batch < sampleCount(SURFACES[settings.surface]);
}

function stepsAnEpoch() {
  return Math.ceil((sampleCount(SURFACES[settings.surface]) || 1) / settings.batch);
}

function showReadout() {
  const surface = SURFACES[settings.surface];
  const place = result.places[shown];
  const [first, second] = surface.labels;
  // Three in a row, so that each derivative is below its parameter.
  const facts = [
    ["step", "Step", shown],
    ["first", first, place.point[0]],
    ["second", second, place.point[1]],
    surface.data ? ["epoch", "Epochs done", Math.floor(shown / stepsAnEpoch())] : ["loss", "Loss", place.loss],
    ["first-slope", `Gradient ∂/∂${first}`, place.gradient[0]],
    ["second-slope", `Gradient ∂/∂${second}`, place.gradient[1]],
    ...(surface.data ? [["loss", "MSE", place.loss], ["rmse", "RMSE", Math.sqrt(place.loss)]] : []),
  ];
  byId("readout").replaceChildren(
    ...facts.map(([name, title, value]) => {
      const number = make("data", { value: String(value), id: `now-${name}` }, formatNumber(value, 4));
      return make("div", {}, make("dt", {}, title), make("dd", {}, number));
    }),
  );
}

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// --- updating the controls

function syncControls() {
  const surface = SURFACES[settings.surface];
  const count = sampleCount(surface);
  for (const [name, field] of Object.entries(FIELDS)) {
    if (document.activeElement !== byId(name)) {
      byId(name).value = String(field.get());
      showError(name, "");
    }
  }
  for (const [name, { toPlace }] of Object.entries(SLIDERS)) {
    const slider = byId(`${name}-slider`);
    slider.max = name === "batch" ? count || 1 : slider.max;
    slider.value = toPlace(settings[name]);
    slider.setAttribute("aria-valuetext", formatNumber(settings[name]));
  }
  for (const group of ["surface", "optimizer"]) {
    document.querySelector(`input[name="${group}"][value="${settings[group]}"]`).checked = true;
  }
  byId("batch").disabled = byId("batch-slider").disabled = !count;
  byId("seed").disabled = !isMiniBatch();
  byId("batch").max = count || 1;
  byId("first-label").textContent = `Start ${surface.labels[0]}`;
  byId("second-label").textContent = `Start ${surface.labels[1]}`;
  byId("shown").max = lastStep();
  byId("shown").value = shown;
  byId("shown").setAttribute("aria-valuetext", `step ${shown} of ${lastStep()}`);
  showHints(surface, count);
}

function showHints(surface, count) {
  const anEpoch = plural(stepsAnEpoch(), "step");
  const epochs = formatNumber(settings.steps / stepsAnEpoch(), 3);
  const line = "ŷ = m x + b".replaceAll(" ", "\u00a0");
  const of = count ? `The mean squared error of the line ${line} on ${count} points.` : SURFACE_TEXTS[surface.name];
  const hints = {
    surface: `${of} It comes with its own start and learning rate.`,
    optimizer: RULE_TEXTS[settings.optimizer],
    batch: count
      ? `The number of points in each step, of ${count}. With all points the path is smooth.`
      : "This surface is a formula without data, so there are no batches.",
    steps: count
      ? `An epoch, once through all points, takes ${anEpoch}: ${epochs} in all.`
      : "The number of steps.",
    seed: isMiniBatch()
      ? "The seed of the order of the points, the same as in Python."
      : "Not used here: each step uses all data.",
  };
  for (const [name, text] of Object.entries(hints)) {
    byId(`${name}-hint`).textContent = text;
  }
  byId("loss-key").textContent = isMiniBatch() ? "Line: on all points. Crosses: on the batch of each step." : "";
  byId("line-heading").textContent = surface.data ? "Data and line" : "Formula";
  byId("line-hint").textContent = lineHint(surface);
}

function lineHint(surface) {
  if (!surface.data) {
    const [p, q] = surface.labels;
    return `loss(${p}, ${q}) = ${surface.formula}. No data, so there is no line to see.`;
  }
  const filled = isMiniBatch() ? " Filled: the points that the next step looks at." : "";
  return `Dashed: the line at the start. Dotted: the error of each point.${filled}`;
}

// --- the table

const table = { result: null, rows: 0 };

// Fills the table while it is open: adds and removes rows at its end.
function showTable() {
  if (!byId("table-box").open) {
    return;
  }
  const [head, body] = [byId("table").tHead, byId("table").tBodies[0]];
  const columns = tableColumns(SURFACES[settings.surface]);
  if (table.result !== result) {
    head.replaceChildren(make("tr", {}, ...columns.map(([title]) => make("th", { scope: "col" }, title))));
    body.replaceChildren();
    Object.assign(table, { result, rows: 0 });
  }
  while (table.rows > shown + 1) {
    body.lastElementChild.remove();
    table.rows -= 1;
  }
  const rows = result.places.slice(table.rows, shown + 1).map((place, i) => {
    const cells = columns.map(([, value]) => tableCell(value(place, table.rows + i)));
    return make("tr", {}, ...cells);
  });
  body.append(...rows);
  table.rows += rows.length;
}

function tableCell(value) {
  const isNumber = typeof value === "number";
  return make("td", {}, isNumber ? make("data", { value: String(value) }, formatNumber(value)) : value);
}

function tableColumns(surface) {
  const [first, second] = surface.labels;
  const downhill = (place) => (place.batch || place).gradient;
  const of = isMiniBatch() ? " (batch)" : "";
  return [
    ["Step", (_, step) => step],
    [first, (place) => place.point[0]],
    [second, (place) => place.point[1]],
    [surface.data ? "MSE" : "Loss", (place) => place.loss],
    ...(surface.data ? [["RMSE", (place) => Math.sqrt(place.loss)]] : []),
    [`∂/∂${first}${of}`, (place) => downhill(place)[0]],
    [`∂/∂${second}${of}`, (place) => downhill(place)[1]],
    ...(isMiniBatch()
      ? [
          ["Epoch", (place) => place.epoch + 1],
          ["Batch: x", (place) => place.batch.rows.map((row) => formatNumber(surface.data.x[row])).join(", ")],
          ["Batch MSE", (place) => place.batch.loss],
        ]
      : []),
  ];
}
