// What the pages for pictures and for texts share. All texts become text nodes, never HTML.

const course = JSON.parse(document.getElementById("course").textContent);
const at = (id) => document.getElementById(id);

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Sends a body to the service and returns its answer; an error has a message for the user. */
async function post(path, kind, body) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: { "Content-Type": kind }, body });
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({ error: `The service answers ${response.status}.` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Shows answers as bars; `label` makes the element for the name of a class. */
function showBars(answers, label = (name) => element("span", "name", name)) {
  at("bars").replaceChildren(...answers.map(({ class: name, probability }) => {
    const item = document.createElement("li");
    const track = element("span", "track");
    const fill = element("span", "fill");
    fill.style.width = `${100 * probability}%`;
    track.append(fill);
    item.append(label(name), track, element("span", "share", `${(100 * probability).toFixed(1)} %`));
    return item;
  }));
}

function showFacts() {
  document.title = course.title;
  at("title").textContent = course.title;
  for (const [name, value] of Object.entries(course.facts)) {
    if (value) at("facts").append(element("dt", "", name), element("dd", "", value));
  }
}

