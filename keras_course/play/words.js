// --- messages ---------------------------------------------------------------------------------------------------

function messageText() {
  const surface = SURFACES[settings.surface];
  const name = lossName(surface);
  const [before, now] = [result.places[0].loss, result.places[shown].loss];
  const least = surface.loss(...surface.minima[0]);
  if (shown === 0) {
    return `At the start the ${name} is ${formatNumber(before, 4)}. Press Play, or One step.`;
  }
  if (result.diverged !== null && shown === lastStep()) {
    return `Diverged at step ${result.diverged}: ${explosion(before, now)}. ${divergenceReason(surface)}`;
  }
  const direction = now < before ? "fell" : now > before ? "rose" : "stayed";
  const change = `the ${name} ${direction} from ${formatNumber(before, 4)} to ${formatNumber(now, 4)}`;
  const end = restingPlace(surface, result.places[shown]) || `The minimum is ${formatNumber(least, 4)}.`;
  return `After ${plural(shown, "step")} ${change}. ${end}`;
}

function explosion(before, now) {
  if (!Number.isFinite(now)) {
    return "the loss is no longer a finite number";
  }
  return `the loss is ${formatNumber(now)}, more than a million times the ${formatNumber(before, 4)} of the start`;
}

function divergenceReason(surface) {
  const rule = COURSE.rules[settings.optimizer];
  const rate = formatNumber(settings.rate);
  const tooLarge = `The learning rate ${rate} is too large here`;
  if (dividesByGradient(rule)) {
    const width = formatNumber(surface.bounds[1] - surface.bounds[0], 3);
    return `${tooLarge}: a step of ${rule.title} is about as long as that, and the picture is only ${width} wide.`;
  }
  const limit = formatNumber(rateLimit(rule, greatestCurvature(surface)), 3);
  if (!surface.quadratic) {
    return `${tooLarge}: even near the global minimum the limit is ${limit}, and it is smaller where the surface is steeper.`;
  }
  const batches = isMiniBatch() ? " with all points in each step, and less with batches" : "";
  return `${tooLarge}; for this surface anything above ${limit} is${batches}.`;
}

// Names the minimum at which the path ended; "" if it is not at one.
function restingPlace(surface, place) {
  const [left, right, bottom, top] = surface.bounds;
  const [m, b] = place.point;
  const distance = ([p, q]) => Math.hypot((m - p) / (right - left), (b - q) / (top - bottom));
  const nearest = surface.minima.reduce((best, minimum) => (distance(minimum) < distance(best) ? minimum : best));
  if (distance(nearest) > 0.01) {
    return "";
  }
  const where = formatPoint(nearest);
  return nearest === surface.minima[0]
    ? `It is at the global minimum, ${where}.`
    : `It is at the local minimum ${where}; the global one is ${formatPoint(surface.minima[0])}.`;
}

function lossLabel() {
  const losses = result.places.slice(0, shown + 1).map((place) => formatNumber(place.loss, 4));
  const name = lossName(SURFACES[settings.surface]);
  return `Loss curve: ${name} ${losses[0]} at the start, ${losses[losses.length - 1]} at step ${shown}`;
}
