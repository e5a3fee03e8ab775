const api = JSON.parse(document.getElementById("course").textContent);

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** Describes a schema in words. */
function words(schema = {}) {
  if (schema.type === "array") {
    const { minItems: least, maxItems: most } = schema;
    const count = most ? ` (${least === most ? most : `up to ${most}`})` : "";
    return `list${count} of ${words(schema.items)}`;
  }
  if (schema.type === "object") {
    const fields = Object.entries(schema.properties ?? {}).map(([name, inner]) => `${name}: ${words(inner)}`);
    return `{ ${fields.join("; ")} }`;
  }
  const parts = [schema.format === "binary" ? "file" : schema.type];
  if (schema.minimum !== undefined) parts.push(`from ${schema.minimum} to ${schema.maximum}`);
  if (schema.default !== undefined) parts.push(`${schema.default} when left out`);
  const unit = schema.format === "binary" ? "bytes" : "characters";
  if (schema.maxLength) parts.push(`at most ${schema.maxLength.toLocaleString("en")} ${unit}`);
  if (schema.enum) parts.push(schema.enum.join(" or "));
  if (schema.description) parts.push(schema.description);
  return parts.join(", ");
}

function list(heading, rows) {
  if (!rows.length) return [];
  const made = element("dl");
  for (const [name, text] of rows) made.append(element("dt", name), element("dd", text));
  return [element("h3", heading), made];
}

function example(method, path, body) {
  const address = `${location.origin}${path}`;
  if (!body) return `curl ${address}`;
  if (body.content["text/plain"]) {
    return [
      `curl --data-binary @text.txt -H "Content-Type: text/plain" ${address}`,
      `curl --json '{"texts": ["One text.", "Another one."]}' ${address}`,
    ].join("\n");
  }
  const lines = [`curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" ${address}`];
  const form = body.content["multipart/form-data"];
  for (const name of Object.keys(form?.schema.properties ?? {})) {
    lines.push(`curl -F ${name}=@one.png -F ${name}=@two.jpg ${address}`);
  }
  return (path === "/predict" ? lines : lines.slice(0, 1)).join("\n");
}

for (const [path, operations] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const card = element("section");
    card.className = "card";
    card.append(element("h2", `${method.toUpperCase()} ${path}`), element("p", operation.summary));
    card.append(element("h3", "for example"), element("pre", example(method, path, operation.requestBody)));
    const { 200: good, ...others } = operation.responses;
    const fields = Object.entries(good.content["application/json"].schema.properties);
    const otherKinds = Object.entries(good.content).filter(([kind]) => kind !== "application/json");
    card.append(
      ...list("query parameters", (operation.parameters ?? []).map(({ name, schema }) => [name, words(schema)])),
      ...list("the body, by its Content-Type", Object.entries(operation.requestBody?.content ?? {})
        .map(([kind, { schema }]) => [kind, words(schema)])),
      ...list("the answer, as JSON", fields.map(([name, schema]) => [name, words(schema)])),
      ...list("the answer, by the header Accept", otherKinds.map(([kind, { schema }]) => [kind, words(schema)])),
      ...list("errors", [[Object.keys(others).join(", "), "JSON with an error and its remedy"]]),
    );
    document.querySelector("main").append(card);
  }
}
