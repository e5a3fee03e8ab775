// --- Requests: one at a time, and always for the newest picture ---------------------------------------------------

let waiting = null;
let asking = false;
let cleared = 0; // answers to requests before the last clearing are not shown

/**
 * Sends a picture, made when its turn comes; one that comes meanwhile is sent next, and those in between are left out.
 * A browser that turns several canvases into files at once may finish the newest first: so only one is made at a time.
 */
async function ask(makePicture) {
  waiting = makePicture;
  if (asking) return;
  asking = true;
  showBusy();
  while (waiting) {
    const makePicture = waiting;
    const before = cleared;
    waiting = null;
    try {
      const picture = await makePicture();
      if (!picture || before !== cleared) continue; // the camera has been stopped, or the drawing cleared
      const top = Math.min(5, course.classes);
      const answer = await postPicture(`predict?top=${top}`, picture);
      if (before === cleared) showAnswer(answer);
      if (!waiting && before === cleared) {
        const reasons = await postPicture("explain", picture);
        if (before === cleared) await showReasons(reasons);
      }
      if (before === cleared) at("error").textContent = "";
    } catch (error) {
      if (before === cleared) showError(error.message);
    }
  }
  asking = false;
  showBusy();
}

/** Tells a screen reader, and tests, whether the answer is final. */
function showBusy() {
  document.querySelector("main").setAttribute("aria-busy", String(asking));
}

/** Returns the content of a canvas as a file. */
function fileOf(canvas, ...format) {
  return new Promise((resolve) => { canvas.toBlob(resolve, ...format); });
}

async function postPicture(path, blob) {
  if (blob.size > course.largest) {
    throw new Error(`The file has ${blob.size.toLocaleString("en")} bytes; at most `
      + `${course.largest.toLocaleString("en")} are taken.`);
  }
  return post(path, "application/octet-stream", blob);
}

// --- Answers ------------------------------------------------------------------------------------------------------

function showAnswer({ predictions: [{ answers }], milliseconds }) {
  at("answer").textContent = answers[0].class;
  showBars(answers);
  at("took").textContent = `in ${milliseconds.toFixed(1)} ms`;
}

const METHODS = {
  "Grad-CAM": "Grad-CAM: the regions in which the last convolution supports the answer.",
  "occlusion": "Occlusion: the regions without which the answer becomes less likely.",
};

async function showReasons({ heat, method, prepared, class: name }) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${prepared}`;
  await picture.decode();
  for (const id of ["prepared", "heat"]) {
    const canvas = at(id);
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d", { willReadFrequently: id === "heat" }).drawImage(picture, 0, 0);
  }
  const context = at("heat").getContext("2d");
  const pixels = context.getImageData(0, 0, picture.width, picture.height);
  heat.flat().forEach((warmth, place) => {
    const share = 0.75 * warmth;
    [230, 90, 0].forEach((color, channel) => {
      const value = pixels.data[4 * place + channel];
      pixels.data[4 * place + channel] = value + share * (color - value);
    });
  });
  context.putImageData(pixels, 0, 0);
  at("size").textContent = `${picture.width} × ${picture.height} pixels`;
  at("method").textContent = `why ${name}`;
  at("explanation").textContent = METHODS[method];
}

function showError(message) {
  at("error").textContent = message;
  showInstead("No answer.");
}

function showNothing() {
  waiting = null;
  cleared += 1;
  at("error").textContent = "";
  showInstead("Nothing yet.");
}

/** Removes the answer to the last picture. */
function showInstead(sentence) {
  at("answer").textContent = sentence;
  at("bars").replaceChildren();
  for (const id of ["prepared", "heat"]) at(id).width = at(id).height = 28;
  at("size").textContent = "the prepared picture";
  at("method").textContent = "why";
  for (const id of ["took", "explanation"]) at(id).textContent = "";
}

// --- Tabs ---------------------------------------------------------------------------------------------------------

const TABS = ["draw", "photo", "camera"];

function choose(tab, { focus = false } = {}) {
  for (const name of TABS) {
    at(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    at(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
    at(`panel-${name}`).hidden = name !== tab;
  }
  if (tab !== "camera") stopCamera();
  if (focus) at(`tab-${tab}`).focus();
}

TABS.forEach((name, place) => {
  at(`tab-${name}`).addEventListener("click", () => choose(name));
  at(`tab-${name}`).addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step) choose(TABS[(place + step + TABS.length) % TABS.length], { focus: true });
  });
});

// --- Drawing ------------------------------------------------------------------------------------------------------

const drawing = at("drawing");
const strokes = [];
let pen = null;

function redraw() {
  const context = drawing.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, drawing.width, drawing.height);
  context.strokeStyle = context.fillStyle = "#111";
  context.lineWidth = drawing.width / 14;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...stroke[0]);
    // a stroke of one point is a dot
    for (const point of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(...point);
    context.stroke();
  }
}

function pointOf({ clientX, clientY }) {
  const box = drawing.getBoundingClientRect();
  return [(clientX - box.left) * drawing.width / box.width, (clientY - box.top) * drawing.height / box.height];
}

function askAboutDrawing() {
  if (strokes.length) ask(() => fileOf(drawing, "image/png"));
  else showNothing();
}

drawing.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  pen = event.pointerId;
  drawing.setPointerCapture(pen);
  strokes.push([pointOf(event)]);
  redraw();
});
drawing.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pen) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) strokes.at(-1).push(pointOf(one));
  redraw();
  askAboutDrawing();
});
for (const kind of ["pointerup", "pointercancel"]) {
  drawing.addEventListener(kind, (event) => {
    if (event.pointerId !== pen) return;
    pen = null;
    askAboutDrawing();
  });
}

function clearDrawing() {
  strokes.length = 0;
  redraw();
  showNothing();
}

at("clear").addEventListener("click", clearDrawing);
at("undo").addEventListener("click", () => {
  strokes.pop();
  redraw();
  askAboutDrawing();
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && !at("panel-draw").hidden) clearDrawing();
});

// --- Photos -------------------------------------------------------------------------------------------------------

let shown = null;

function takeFile(file) {
  if (!file) return;
  choose("photo");
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(file);
  at("preview").src = shown;
  at("preview").alt = file.name;
  at("preview").hidden = false;
  at("drop-text").textContent = file.name;
  ask(() => file);
}

at("file").addEventListener("change", ({ target }) => {
  takeFile(target.files[0]);
  target.value = ""; // the same file may be chosen again
});
at("preview").addEventListener("error", () => { at("preview").hidden = true; });
for (const kind of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", ({ clipboardData }) => takeFile(clipboardData.files[0]));

// --- Camera -------------------------------------------------------------------------------------------------------

let stream = null;
let timer = null;

at("start").addEventListener("click", async () => {
  try {
    if (!navigator.mediaDevices) throw new Error("this browser offers none here (a page needs localhost or https)");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    showError(`The camera cannot be used: ${error.message}.`);
    return;
  }
  at("video").srcObject = stream;
  await at("video").play();
  at("start").hidden = true;
  at("stop").hidden = false;
  timer = setInterval(askAboutFrame, 300);
});
at("stop").addEventListener("click", stopCamera);

function stopCamera() {
  clearInterval(timer);
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at("video").srcObject = null;
  at("start").hidden = false;
  at("stop").hidden = true;
}

/** Sends the square in the middle, which the page shows. */
function askAboutFrame() {
  if (at("video").videoWidth) ask(frameOfCamera);
}

function frameOfCamera() {
  const { videoWidth: width, videoHeight: height } = at("video");
  const side = Math.min(width, height);
  const frame = document.createElement("canvas");
  frame.width = frame.height = Math.min(side, 480);
  frame.getContext("2d")
    .drawImage(at("video"), (width - side) / 2, (height - side) / 2, side, side, 0, 0, frame.width, frame.height);
  return fileOf(frame, "image/jpeg", 0.92);
}

// --- The model ----------------------------------------------------------------------------------------------------

showFacts();
redraw();
choose(course.draw ? "draw" : "photo");
