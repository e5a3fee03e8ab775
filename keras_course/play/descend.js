// --- descent ----------------------------------------------------------------------------------------------------

const DIVERGED_ABOVE = 1e6; // times the loss at the start, or times 1, if that is more: as in keras_course/training

// Yields for each step the epoch and the rows of its batch: each epoch is shuffled anew, its last batch may be smaller.
// Without data, or with all of it in each step, the rows are left out.
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

// Goes down a surface. Each entry of `steps` is a place: the point, the loss on all data, the gradient there, and what
// the step that leaves it sees, its batch's loss and gradient. `diverged` is the number of the step after which the
// loss was too large or no number any more; there it ends.
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
