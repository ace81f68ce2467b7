// The form's request as a program that anybody can run: curl, fetch, Python.

import { asForm } from "./as_form.js";

/**
 * @typedef {{url: string, fields: object, files: Object<string, string>, needsKey: boolean}} Call
 *   files: the fields that are pictures, and what these are called on the disk
 */

/** @param {"curl" | "fetch" | "python"} language  @param {Call} call */
export function snippet(language, call) {
  return { curl, fetch: javascript, python }[language](call);
}

/** One picture comes as a file, several only as JSON. */
function asFile({ fields }) {
  return (fields.batch_size ?? 1) === 1;
}

function hasFiles({ files }) {
  return Object.keys(files).length > 0;
}

function curl(call) {
  const lines = [`curl -sS --fail-with-body ${shell(call.url)}`];
  if (call.needsKey) lines.push(`-H "Authorization: Bearer $SD_API_KEY"`);
  if (asFile(call)) lines.push("-H 'Accept: image/png'");
  if (hasFiles(call)) {
    lines.push(...Object.entries(call.files).map(([name, file]) => `-F ${curlFile(name, file)}`));
    lines.push(...Object.entries(asForm(call.fields)).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`));
  } else {
    lines.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(call.fields))}`);
  }
  lines.push(asFile(call) ? "-o result.png" : "-o result.json");
  return lines.join(" \\\n  ");
}

/** In a name without quotes curl takes , and ; for its own. */
function curlFile(name, file) {
  if (/^[\w.][\w.-]*$/.test(file)) return `${name}=@${file}`;
  return shell(`${name}=@"${file.replace(/["\\]/g, "\\$&")}"`);
}

function javascript(call) {
  const headers = [];
  if (call.needsKey) headers.push('Authorization: "Bearer " + key');
  if (asFile(call)) headers.push('Accept: "image/png"');
  if (!hasFiles(call)) headers.push('"Content-Type": "application/json"');
  const body = hasFiles(call) ? "form" : `JSON.stringify(${indented(call.fields)})`;
  const request = [`  method: "POST",`, `  headers: { ${headers.join(", ")} },`, `  body: ${body},`];
  return [
    ...(hasFiles(call) ? formLines(call) : []),
    `const answer = await fetch(${JSON.stringify(call.url)}, {`,
    ...request,
    "});",
    "if (!answer.ok) throw new Error((await answer.json()).detail);",
    asFile(call) ? `const picture = await answer.blob();${seedRemark(call)}` : "const { images } = await answer.json();",
  ].join("\n");
}

/** An enlarged picture has none. */
function seedRemark({ fields }) {
  return "prompt" in fields ? ' // its seed: answer.headers.get("X-Seed")' : "";
}

function formLines({ fields, files }) {
  return [
    "const form = new FormData();",
    ...Object.keys(files).map((name) => `form.append("${name}", ${name}File); // a File or a Blob`),
    ...Object.entries(asForm(fields)).map(([name, value]) => `form.append("${name}", ${JSON.stringify(value)});`),
    "",
  ];
}

function python(call) {
  const headers = [];
  if (call.needsKey) headers.push('"Authorization": f"Bearer {key}"');
  if (asFile(call)) headers.push('"Accept": "image/png"');
  const opened = Object.entries(call.files).map(([name, file]) => `"${name}": open(${JSON.stringify(file)}, "rb")`);
  return [
    "import requests",
    "",
    "answer = requests.post(",
    `    ${JSON.stringify(call.url)},`,
    `    headers={${headers.join(", ")}},`,
    hasFiles(call) ? `    data=${indented(asForm(call.fields), "    ")},` : `    json=${indented(call.fields, "    ")},`,
    ...(hasFiles(call) ? [`    files={${opened.join(", ")}},`] : []),
    "    timeout=430,  # waiting for a WebUI and painting, in seconds",
    ")",
    "answer.raise_for_status()",
    asFile(call) ? 'open("result.png", "wb").write(answer.content)' : 'images = answer.json()["images"]',
  ].join("\n");
}

/** JSON's texts and numbers are Python's and JavaScript's as well. */
function indented(fields, before = "  ") {
  return JSON.stringify(fields, null, 4).replaceAll("\n", `\n${before}`);
}

function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
