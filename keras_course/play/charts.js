// --- drawing ----------------------------------------------------------------------------------------------------
// Everything is SVG, except the colored background of the surface, which is a canvas. Colors are classes in page.css.

const SVG = "http://www.w3.org/2000/svg";
const FAR = 1e4; // pixels; paths are clipped at this distance, since SVG limits the size of numbers

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, value);
  }
  if (text !== undefined) {
    node.textContent = text;
  }
  return node;
}

// Returns a linear map from low .. high to from .. to, and its inverse.
function linearScale(low, high, from, to) {
  const scale = (value) => from + ((value - low) / (high - low)) * (to - from);
  scale.invert = (pixel) => low + ((pixel - from) / (to - from)) * (high - low);
  return scale;
}

function logScale(low, high, from, to) {
  const inner = linearScale(Math.log(low), Math.log(high), from, to);
  return (value) => inner(Math.log(Math.max(value, low)));
}

// Returns the SVG path through points in pixels; segments are clipped at the distance FAR.
function pathThrough(points) {
  const isNear = ([x, y]) => Math.abs(x) <= FAR && Math.abs(y) <= FAR;
  const toward = ([x, y], [farX, farY]) => {
    const share = Math.min(1, FAR / Math.hypot(farX - x, farY - y));
    return [x + share * (farX - x), y + share * (farY - y)];
  };
  const parts = [];
  let pen = null;
  for (let i = 1; i < points.length; i++) {
    let [from, to] = [points[i - 1], points[i]];
    if (![...from, ...to].every(Number.isFinite) || !(isNear(from) || isNear(to))) {
      continue;
    }
    if (!isNear(from)) {
      from = toward(to, from);
    } else if (!isNear(to)) {
      to = toward(from, to);
    }
    const line = to.map((value) => value.toFixed(1)).join(" ");
    parts.push(pen === from ? `L${line}` : `M${from.map((value) => value.toFixed(1)).join(" ")}L${line}`);
    pen = to; // a new array if the segment was clipped: then the next one starts with a move
  }
  return parts.join("");
}

// --- the surface

// Viridis, from low to high (S. van der Walt, N. Smith, 2015): its lightness rises evenly, also for color-blind people.
const RAMP = [
  "#440154", "#482173", "#433e85", "#38588c", "#2d708e", "#25858e", "#1e9b8a", "#2ab07f", "#52c569", "#86d549",
  "#c2df23", "#fde725",
].map((color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16)));
const BANDS = 16;

function rampColor(share) {
  const place = clamp(share, 0, 1) * (RAMP.length - 1);
  const index = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[index].map((low, i) => low + (place - index) * (RAMP[index + 1][i] - low));
}

// Maps losses to 0 .. 1: logarithmic where they are large, and nearly linear near the minimum, which so has bands, too.
function makeLevels(surface, losses) {
  const least = surface.loss(...surface.minima[0]);
  const excess = Float64Array.from(losses, (loss) => Math.max(loss - least, 0)).sort();
  const greatest = excess[excess.length - 1];
  const bend = Math.max(excess[Math.floor(excess.length * 0.04)], greatest * 1e-6);
  const span = Math.log1p(greatest / bend);
  return {
    share: (loss) => Math.log1p(Math.max(loss - least, 0) / bend) / span,
    loss: (share) => least + bend * Math.expm1(share * span),
  };
}

// Paints filled contours with thin contour lines between them, both anti-aliased.
function paintSurface(canvas, surface, width, height, scale) {
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  canvas.width = columns;
  canvas.height = rows;
  const [left, right, bottom, top] = surface.bounds;
  const losses = new Float64Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    const second = top + ((row + 0.5) / rows) * (bottom - top);
    for (let column = 0; column < columns; column++) {
      losses[row * columns + column] = surface.loss(left + ((column + 0.5) / columns) * (right - left), second);
    }
  }
  const levels = makeLevels(surface, losses);
  const heights = losses.map((loss) => levels.share(loss) * BANDS);
  const colors = Array.from({ length: BANDS }, (_, band) => rampColor(band / (BANDS - 1)));
  const image = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const i = row * columns + column;
      const across = heights[column + 1 < columns ? i + 1 : i] - heights[column > 0 ? i - 1 : i];
      const along = heights[row + 1 < rows ? i + columns : i] - heights[row > 0 ? i - columns : i];
      const edge = clamp(Math.round(heights[i]), 1, BANDS - 1);
      const pixels = (heights[i] - edge) / (Math.hypot(across, along) / 2 + 1e-9); // to the nearest contour line
      const above = clamp(pixels + 0.5, 0, 1);
      const shade = 1 - 0.22 * clamp(0.9 * scale - Math.abs(pixels), 0, 1);
      for (let channel = 0; channel < 3; channel++) {
        const blend = colors[edge - 1][channel] * (1 - above) + colors[edge][channel] * above;
        image.data[4 * i + channel] = blend * shade;
      }
      image.data[4 * i + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return levels;
}

function crossPath(x, y, arm) {
  return `M${x - arm} ${y - arm}L${x + arm} ${y + arm}M${x - arm} ${y + arm}L${x + arm} ${y - arm}`;
}

function diamondPath(x, y, arm) {
  return `M${x} ${y - arm}L${x + arm} ${y}L${x} ${y + arm}L${x - arm} ${y}Z`;
}

// Returns ticks, numbers and labels of both axes; box is {left, right, top, bottom} in pixels.
function axisShapes(box, xTicks, yTicks, labels, grid) {
  const nodes = [];
  const kind = grid ? "grid" : "tick";
  for (const [x, text] of xTicks) {
    nodes.push(
      shape("line", { class: kind, x1: x, x2: x, y1: grid ? box.top : box.bottom, y2: box.bottom + 4 }),
      shape("text", { class: "number", x, y: box.bottom + 17, "text-anchor": "middle" }, text),
    );
  }
  for (const [y, text] of yTicks) {
    nodes.push(
      shape("line", { class: kind, x1: box.left - 4, x2: grid ? box.right : box.left, y1: y, y2: y }),
      shape("text", { class: "number", x: box.left - 8, y: y + 4, "text-anchor": "end" }, text),
    );
  }
  const [across, along] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const turned = `rotate(-90 11 ${along})`;
  nodes.push(
    shape("text", { class: "axis", x: across, y: box.bottom + 35, "text-anchor": "middle" }, labels[0]),
    shape("text", { class: "axis", x: 11, y: along, transform: turned, "text-anchor": "middle" }, labels[1]),
  );
  return nodes;
}

// Returns the axes and the minima of the surface, which do not depend on the path.
function surfaceFrame(surface, box, toX, toY) {
  const [left, right, bottom, top] = surface.bounds;
  const xTicks = ticks(left, right, (box.right - box.left) / 55).map((value) => [toX(value), formatNumber(value)]);
  const yTicks = ticks(bottom, top, (box.bottom - box.top) / 50).map((value) => [toY(value), formatNumber(value)]);
  const names = surface.data ? ["slope m", "intercept b"] : surface.labels;
  const crosses = surface.minima.flatMap(([p, q]) => [
    shape("path", { class: "minimum casing", d: crossPath(toX(p), toY(q), 5) }),
    shape("path", { class: "minimum", d: crossPath(toX(p), toY(q), 5) }),
  ]);
  return [...axisShapes(box, xTicks, yTicks, names, false), ...crosses];
}

// Returns the path so far, a dot for each step of a short path, and the current point.
function descentShapes(points, toX, toY) {
  const pixels = points.map(([p, q]) => [toX(p), toY(q)]);
  const d = pathThrough(pixels);
  const seen = ([x, y]) => Math.abs(x) <= FAR && Math.abs(y) <= FAR;
  const isLong = pixels.length > 101;
  const dots = [pixels[0]]; // without those that would overlap
  for (const pixel of isLong ? [] : pixels) {
    const [lastX, lastY] = dots[dots.length - 1];
    if (seen(pixel) && Math.hypot(pixel[0] - lastX, pixel[1] - lastY) >= 9) {
      dots.push(pixel);
    }
  }
  const kind = isLong ? "path long" : "path";
  const nodes = [shape("path", { class: `${kind} casing`, d }), shape("path", { class: kind, d })];
  nodes.push(...dots.slice(1).map(([cx, cy]) => shape("circle", { class: "step", cx, cy, r: 3 })));
  const now = pixels[pixels.length - 1];
  if (pixels.length > 1 && seen(now)) {
    nodes.push(shape("path", { class: "now", d: diamondPath(...now, 8) }));
  }
  return nodes;
}

// --- the loss over the steps

// Returns a logarithmic axis if the losses span more than a factor of 20, as in keras_course/plots/style.py.
function lossAxis(values, from, to) {
  const shown = values.filter(Number.isFinite);
  const greatest = Math.max(...shown);
  const least = Math.min(...shown);
  if (least > 0 && greatest > 20 * least) {
    const high = 10 ** Math.ceil(Math.log10(greatest));
    const low = 10 ** Math.floor(Math.log10(Math.max(least, greatest * 1e-16)));
    const decades = Math.round(Math.log10(high / low));
    const every = Math.ceil(decades / 5);
    const marks = Array.from({ length: Math.floor(decades / every) + 1 }, (_, i) => tidy(low * 10 ** (i * every)));
    return { isLogarithmic: true, scale: logScale(low, high, from, to), marks };
  }
  const marks = ticks(0, greatest || 1, 5);
  const high = Math.max(greatest, marks[marks.length - 1]) || 1;
  return { isLogarithmic: false, scale: linearScale(0, high, from, to), marks };
}

// Draws the losses up to the step `shown`; the axes fit all losses.
function lossChart(width, height, places, shown, lossName) {
  const box = { left: 66, right: width - 14, top: 10, bottom: height - 42 };
  const losses = places.map((place) => place.loss);
  const batchLosses = places.slice(0, -1).map((place) => (place.batch ? place.batch.loss : NaN));
  // The loss of one batch may be close to 0 by chance; the axis ignores it, so that the curve does not look flat.
  const floor = Math.min(...losses.filter(Number.isFinite)) / 10;
  const axis = lossAxis([...losses, ...batchLosses.filter((loss) => loss > floor)], box.bottom, box.top);
  const toX = linearScale(0, Math.max(1, places.length - 1), box.left, box.right);
  const xTicks = ticks(0, Math.max(1, places.length - 1), (width - 80) / 60).filter(Number.isInteger);
  const nodes = axisShapes(
    box,
    xTicks.map((value) => [toX(value), formatNumber(value)]),
    axis.marks.map((value) => [axis.scale(value), formatNumber(value, 3)]),
    ["step", axis.isLogarithmic ? `${lossName} (log)` : lossName],
    true,
  );
  const markSize = places.length <= 60 ? 4 : 2.5;
  batchLosses.slice(0, shown).forEach((loss, step) => {
    if (Number.isFinite(loss)) {
      nodes.push(shape("path", { class: "batch-mark", d: crossPath(toX(step), axis.scale(loss), markSize) }));
    }
  });
  const line = losses.slice(0, shown + 1).map((loss, step) => [toX(step), axis.scale(loss)]);
  nodes.push(shape("path", { class: "loss-line", d: pathThrough(line) }));
  const now = line[line.length - 1];
  if (Number.isFinite(now[1])) {
    nodes.push(shape("path", { class: "now", d: diamondPath(...now, 7) }));
  }
  return nodes;
}

// --- the line through the data

function lineChart(width, height, { x, y }, start, now, batchRows) {
  const box = { left: 66, right: width - 14, top: 10, bottom: height - 42 };
  const [reachX, reachY] = [Math.max(...x) - Math.min(...x), Math.max(...y) - Math.min(...y)];
  const [lowX, highX] = [Math.min(...x) - 0.3 * reachX, Math.max(...x) + 0.3 * reachX];
  const [lowY, highY] = [Math.min(...y) - 0.6 * reachY, Math.max(...y) + 0.6 * reachY];
  const toX = linearScale(lowX, highX, box.left, box.right);
  const toY = linearScale(lowY, highY, box.bottom, box.top);
  const nodes = axisShapes(
    box,
    ticks(lowX, highX, 5).map((value) => [toX(value), formatNumber(value)]),
    ticks(lowY, highY, 5).map((value) => [toY(value), formatNumber(value)]),
    ["x", "y"],
    true,
  );
  const line = ([m, b]) => pathThrough([lowX, highX].map((value) => [toX(value), toY(m * value + b)]));
  nodes.push(shape("path", { class: "start-line", d: line(start), "clip-path": "url(#line-clip)" }));
  for (const [i, value] of x.entries()) {
    const d = pathThrough([y[i], now[0] * value + now[1]].map((height) => [toX(value), toY(height)]));
    nodes.push(shape("path", { class: "error-line", d, "clip-path": "url(#line-clip)" }));
  }
  nodes.push(shape("path", { class: "now-line", d: line(now), "clip-path": "url(#line-clip)" }));
  for (const [i, value] of x.entries()) {
    const isInBatch = !batchRows || batchRows.includes(i);
    nodes.push(shape("circle", { class: isInBatch ? "sample" : "sample idle", cx: toX(value), cy: toY(y[i]), r: 5.5 }));
  }
  const clip = shape("clipPath", { id: "line-clip" });
  clip.append(shape("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
  return [clip, ...nodes];
}
