// --- Requests: one at a time, and always for the newest text ------------------------------------------------------

const PAUSE = 250; // milliseconds without a key after which the text is sent

let waiting = null;
let asking = false;
let timer = null;

/** Sends a text; one that comes meanwhile is sent next, and those in between are left out. */
async function ask(text) {
  waiting = text;
  if (asking) return;
  asking = true;
  showBusy();
  while (waiting !== null) {
    const text = waiting;
    waiting = null;
    if (!text.trim()) {
      showInstead("Nothing yet.");
      continue;
    }
    try {
      if (text.length > course.longest) {
        throw new Error(`The text has ${text.length.toLocaleString("en")} characters; at most `
          + `${course.longest.toLocaleString("en")} are read.`);
      }
      const path = `predict?top=${Math.min(5, course.classes)}&tokens=true&cut=${at("cut").checked}`;
      const answer = await post(path, "application/json", JSON.stringify({ texts: [text] }));
      if (waiting === null) showAnswer(answer);
    } catch (error) {
      if (waiting === null) showInstead("No answer.", error.message);
    }
  }
  asking = false;
  showBusy();
}

/** Tells a screen reader, and tests, whether the answer is final. */
function showBusy() {
  document.querySelector("main").setAttribute("aria-busy", String(asking));
}

function askAboutText() {
  clearTimeout(timer);
  ask(at("text").value);
}

// --- Answers ------------------------------------------------------------------------------------------------------

function showAnswer({ predictions: [{ answers, note, tokens }], milliseconds }) {
  at("error").textContent = "";
  at("answer").textContent = answers[0].class;
  showBars(answers, course.continues ? continuation : undefined);
  at("note").textContent = note ? `Note: ${note}.` : "";
  at("took").textContent = `in ${milliseconds.toFixed(1)} ms`;
  at("tokens").replaceChildren(...tokens.map((token) => {
    const kind = token === course.unknown ? "unknown" : course.marks.includes(token) ? "mark" : "";
    return element("li", kind, token);
  }));
  at("explanation").textContent = course.explanation;
}

/** Removes the answer to the last text. */
function showInstead(sentence, error = "") {
  at("error").textContent = error;
  at("answer").textContent = sentence;
  for (const id of ["bars", "tokens"]) at(id).replaceChildren();
  for (const id of ["note", "took", "explanation"]) at(id).textContent = "";
}

// --- Writing ------------------------------------------------------------------------------------------------------

/** Makes the button that continues the text with a word; a mark such as the end of a sentence is no word. */
function continuation(token) {
  if (token === course.unknown || course.marks.includes(token)) return element("span", "name", token);
  const button = element("button", "name", token);
  button.type = "button";
  button.title = "Continue the text with this";
  button.addEventListener("click", () => {
    at("text").value = continued(at("text").value, token);
    at("text").focus();
    askAboutText();
  });
  return button;
}

/** Returns a text and a token after it, with a space between words. */
function continued(text, token) {
  if (course.unit === "characters") return text + token;
  if (course.unit === "word pieces" && token.startsWith("##")) return text.trimEnd() + token.slice(2);
  return text === "" || /\s$/.test(text) || /^[.,;:!?)]/.test(token) ? text + token : `${text} ${token}`;
}

at("text").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(askAboutText, PAUSE);
});
at("cut").addEventListener("change", askAboutText);
at("clear").addEventListener("click", () => {
  at("text").value = "";
  at("text").focus();
  askAboutText();
});

// --- The model ----------------------------------------------------------------------------------------------------

showFacts();
at("hint").textContent = course.hint;
at("answer-heading").textContent = course.heading;
askAboutText(); // a browser may have kept the text of the page before
