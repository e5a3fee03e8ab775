// --- loss surfaces ----------------------------------------------------------------------------------------------
// For each: the loss at (p, q), its gradient [∂p, ∂q], and its second derivatives [∂pp, ∂pq, ∂qq]. The formulas are
// those of keras_course/surfaces.py, differentiated by hand.

const FORMULAS = {
  long_valley: {
    quadratic: true,
    loss: (p, q) => (p ** 2 + 20 * q ** 2) / 2,
    gradient: (p, q) => [p, 20 * q],
    hessian: () => [1, 0, 20],
  },
  curved_valley: {
    quadratic: false,
    loss: (p, q) => (1 - p) ** 2 + 10 * (q - p ** 2) ** 2,
    gradient: (p, q) => [-2 * (1 - p) - 40 * p * (q - p ** 2), 20 * (q - p ** 2)],
    hessian: (p, q) => [2 - 40 * (q - 3 * p ** 2), -40 * p, 20],
  },
  several_minima: {
    quadratic: false,
    loss: (p, q) => (p ** 4 - 16 * p ** 2 + 5 * p + (q ** 4 - 16 * q ** 2 + 5 * q)) / 2 + 78.33233,
    gradient: (p, q) => [2 * p ** 3 - 16 * p + 2.5, 2 * q ** 3 - 16 * q + 2.5],
    hessian: (p, q) => [6 * p ** 2 - 16, 0, 6 * q ** 2 - 16],
  },
};

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// The mean squared error of ŷ = m x + b on the points; `rows` selects a mini-batch.
function lineSurface({ x, y }) {
  const all = [...x.keys()];
  const errors = (m, b, rows) => rows.map((row) => m * x[row] + b - y[row]);
  return {
    quadratic: true,
    loss: (m, b, rows = all) => mean(errors(m, b, rows).map((error) => error ** 2)),
    gradient(m, b, rows = all) {
      const wrong = errors(m, b, rows);
      return [2 * mean(wrong.map((error, i) => error * x[rows[i]])), 2 * mean(wrong)];
    },
    hessian: () => [2 * mean(x.map((value) => value ** 2)), 2 * mean(x), 2],
  };
}

// Returns the surfaces of the page's data, each with its functions.
function makeSurfaces(course) {
  const entries = Object.entries(course.surfaces).map(([name, surface]) => [
    name,
    { name, ...surface, ...(surface.data ? lineSurface(surface.data) : FORMULAS[name]) },
  ]);
  return Object.fromEntries(entries);
}

function sampleCount(surface) {
  return surface.data ? surface.data.x.length : 0;
}

// Returns the largest curvature at the global minimum: the larger eigenvalue of the matrix of second derivatives.
function greatestCurvature(surface) {
  const [pp, pq, qq] = surface.hessian(...surface.minima[0]);
  return (pp + qq + Math.hypot(pp - qq, 2 * pq)) / 2;
}
