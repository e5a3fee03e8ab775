// --- descent ----------------------------------------------------------------------------------------------------

const DIVERGED_ABOVE = 1e6; // times the loss at the start, or 1 if that is larger: as in keras_course/training

// Yields the epoch and the rows of the batch of each step. Each epoch is reshuffled; its last batch may be smaller.
// The rows are undefined if there are no data, or if each step uses all of them.
function* batches(size, batchSize, seed, nameWords) {
  const key = shuffleKey(seed, nameWords);
  for (let epoch = 0; ; epoch++) {
    if (batchSize >= size) {
      yield { epoch, rows: undefined };
      continue;
    }
    const order = permutation(key, size, epoch);
    for (let first = 0; first < size; first += batchSize) {
      yield { epoch, rows: order.slice(first, first + batchSize) };
    }
  }
}

// Runs gradient descent. Each entry of `places` has the point, its loss and gradient on all data, and the mini-batch of
// the next step: its rows, loss and gradient. `diverged` is the step after which the loss was too large or not a number,
// and the last one; it is null if the descent did not diverge.
function descend(surface, rule, { start, learningRate, batchSize, steps, seed }, nameWords) {
  const memories = start.map(() => ({ velocity: 0, square: rule.square_start }));
  const plan = batches(sampleCount(surface), batchSize, seed, nameWords);
  const limit = DIVERGED_ABOVE * Math.max(1, surface.loss(...start));
  const places = [];
  let point = start;
  for (let step = 0; step <= steps; step++) {
    const loss = surface.loss(...point);
    const { epoch, rows } = plan.next().value;
    const gradient = surface.gradient(...point);
    const batch = rows && { rows, loss: surface.loss(...point, rows), gradient: surface.gradient(...point, rows) };
    places.push({ point, loss, gradient, epoch, batch });
    if (!(loss <= limit)) {
      return { places, diverged: step };
    }
    const downhill = (batch || { gradient }).gradient;
    point = point.map((value, i) => update(value, downhill[i], memories[i], rule, learningRate, step + 1));
  }
  return { places, diverged: null };
}
