// --- formatting numbers -----------------------------------------------------------------------------------------

const SUPERSCRIPTS = Object.fromEntries([..."-0123456789"].map((sign, i) => [sign, [..."⁻⁰¹²³⁴⁵⁶⁷⁸⁹"][i]]));

const TIMES = "\u202f×\u202f"; // between narrow no-break spaces

// Formats a number with that many significant digits: −0.7, 12,345, 3.2 × 10⁻⁷.
function formatNumber(value, digits = 5) {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : "−∞";
  }
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    const [mantissa, exponent] = value.toExponential(clamp(digits - 2, 1, 3) - 1).split("e");
    const power = `10${[...String(Number(exponent))].map((sign) => SUPERSCRIPTS[sign]).join("")}`;
    text = Number(mantissa) === 1 ? power : `${Number(mantissa)}${TIMES}${power}`;
  } else {
    text = value.toLocaleString("en-US", { maximumSignificantDigits: digits });
  }
  return text === "-0" ? "0" : text.replace("-", "−");
}

function formatPoint(point, digits = 3) {
  return `(${point.map((value) => formatNumber(value, digits)).join(", ")})`;
}

function plural(count, word) {
  return `${formatNumber(count, 15)} ${word}${count === 1 ? "" : "s"}`;
}

// Returns the largest of 1, 2, 5 times a power of ten that is not above the size.
function niceStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return [5, 2, 1].find((factor) => factor * power <= size * (1 + 1e-9)) * power;
}

// Removes the rounding error of binary fractions, as in 0.1 + 0.2.
function tidy(value) {
  return Number(value.toPrecision(12));
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Returns about `count` round numbers from low to high.
function ticks(low, high, count) {
  const step = niceStep((1.6 * (high - low)) / count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => tidy((first + i) * step));
}
