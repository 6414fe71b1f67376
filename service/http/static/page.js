// The playground: plain functions around one state; everything shown is made with textContent.

import { samples } from "./samples.js";

const at = (id) => document.getElementById(id);
const state = { file: null, tasks: [], chosen: new Set(), model: "" }; // "": the server's first

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// -- asking --------------------------------------------------------------------------------------

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = at("key").value.trim();
  if (key) headers.set("X-API-Key", key);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Error(`The server answered ${response.status}, and not in JSON.`);
  }
  if (!response.ok) {
    throw new Error(`${body.error} (${response.status} ${body.code}, request ${body.request_id})`);
  }
  return body;
}

function tell(error) {
  at("problem").textContent = error ? error.message : "";
}

// What is asked of the chosen model; of the only one without naming it.
const about = (path) => (state.model ? `${path}?model=${encodeURIComponent(state.model)}` : path);

async function load() {
  try {
    await findModels();
    await findTasks();
    tell(null);
  } catch (error) {
    at("model").textContent = "No tasks yet.";
    tell(error);
  }
  showTasks();
}

async function findModels() {
  const found = await request("/v1/models");
  const several = found.models.length > 1;
  state.model = several ? at("choice").value || found.default : "";
  at("choice").replaceChildren(...(several ? found.models : []).map(({ name }) =>
    make("option", { value: name, textContent: name, selected: name === state.model })));
  at("models").hidden = !several;
}

async function findTasks() {
  const asked = state.model;
  const found = await request(about("/v1/tasks"));
  if (asked !== state.model) return; // another was chosen meanwhile
  const { name, version } = found.model;
  at("model").textContent = `${name}, version ${version}: ${found.tasks.length} tasks`;
  state.tasks = found.tasks;
  state.chosen = new Set(found.tasks.slice(0, 12).map((task) => task.name));
}

function clearAnswer() {
  tell(null);
  at("bars").replaceChildren();
  at("cost").textContent = "";
  at("legend").hidden = true;
}

async function ask() {
  clearAnswer();
  if (!state.file) return tell(new Error("Choose an image first."));
  if (!state.chosen.size) return tell(new Error("Choose at least one task."));
  const form = new FormData();
  form.append("image", state.file, state.file.name);
  form.append("tasks", names().join(","));
  at("ask").disabled = true;
  at("cost").textContent = "Asking …";
  const begun = performance.now();
  try {
    showAnswer(await request(about("/v1/predict"), { method: "POST", body: form }), performance.now() - begun);
  } catch (error) {
    at("cost").textContent = "";
    tell(error);
  } finally {
    at("ask").disabled = false;
  }
}

// -- image ---------------------------------------------------------------------------------------

function choose(file) {
  if (!file) return;
  URL.revokeObjectURL(at("preview").src);
  state.file = file;
  // Not refused here, whatever it is: the server's own words say what is wrong with it.
  at("preview").src = URL.createObjectURL(file);
  at("preview").alt = `Chosen: ${file.name}`;
  at("preview").hidden = !file.type.startsWith("image/");
  at("caption").textContent = `${file.name}, ${file.size.toLocaleString("en")} bytes`;
  at("chosen").hidden = false;
  showCurl();
}

async function showSamples() {
  for (const file of await samples()) {
    const name = file.name.replace(".png", "");
    const image = make("img", { src: URL.createObjectURL(file), alt: `Sample: ${name}` });
    const button = make("button", { type: "button", title: name }, image);
    button.addEventListener("click", () => {
      at("file").value = "";
      choose(file);
    });
    at("samples").append(button);
  }
}

// -- tasks ---------------------------------------------------------------------------------------

const names = () => state.tasks.map((task) => task.name).filter((name) => state.chosen.has(name));

function shown() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return state.tasks.filter((task) => {
    const text = `${task.name} ${task.group} ${task.description} ${task.classes.join(" ")}`;
    return words.every((word) => text.toLowerCase().includes(word));
  });
}

function box(text, checked, change) {
  const input = make("input", { type: "checkbox", checked });
  input.addEventListener("change", () => change(input.checked));
  return make("label", {}, input, ` ${text}`);
}

function mark(tasks, checked) {
  for (const task of tasks) state.chosen[checked ? "add" : "delete"](task.name);
  showTasks();
}

function showTasks() {
  // Drawn anew, so what had the focus is looked up again by its place.
  const boxes = [...at("groups").querySelectorAll("input")];
  const focus = boxes.indexOf(document.activeElement);
  const groups = Map.groupBy
    ? Map.groupBy(shown(), (task) => task.group)
    : shown().reduce((map, task) => map.set(task.group, [...(map.get(task.group) ?? []), task]), new Map());
  at("groups").replaceChildren(...[...groups].map(([group, tasks]) => {
    const all = tasks.every((task) => state.chosen.has(task.name));
    const list = tasks.map((task) => {
      const label = box(task.name, state.chosen.has(task.name), (on) => mark([task], on));
      label.title = task.description || task.classes.join(", ");
      return label;
    });
    return make("fieldset", {},
      make("legend", {}, box(group || "other tasks", all, (on) => mark(tasks, on))),
      make("div", { className: "tasks" }, ...list));
  }));
  if (focus >= 0) at("groups").querySelectorAll("input")[focus]?.focus();
  at("count").textContent = `${names().length} of ${state.tasks.length} chosen`;
  showCurl();
}

// -- answers -------------------------------------------------------------------------------------

function bar(prediction) {
  const { task, label, probability, threshold, calibrated, error } = prediction;
  if (error) return make("li", {}, make("strong", { textContent: task }), ` ${error}`);
  const percent = `${(probability * 100).toFixed(1)} %`;
  const fill = make("div", { className: "fill" });
  fill.style.width = `${probability * 100}%`;
  const meter = make("div", { className: "bar" }, fill);
  const binary = threshold !== undefined;
  const of = binary ? "probability of the second class" : `probability of ${label}`;
  for (const [name, value] of Object.entries({
    role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `${task}: ${of}`,
    "aria-valuenow": (probability * 100).toFixed(1), "aria-valuetext": percent,
  })) meter.setAttribute(name, value);
  let note = calibrated ? "● calibrated" : "not calibrated";
  if (binary) {
    const line = make("div", { className: "mark" });
    line.style.left = `calc(${threshold * 100}% - 1px)`;
    meter.append(line);
    note += `, threshold ${(threshold * 100).toFixed(1)} %`;
  }
  return make("li", {},
    make("div", { className: "said" },
      make("strong", { textContent: `${task}: ${label}` }), make("span", { textContent: percent })),
    meter, make("div", { className: "small", textContent: note }));
}

function showAnswer(answer, elapsed) {
  const predictions = answer.results[0].predictions;
  at("bars").replaceChildren(...predictions.map(bar));
  at("legend").hidden = false;
  const { decode, queue, compute } = answer.timing_ms;
  at("cost").textContent =
    `${predictions.length} answers in ${elapsed.toFixed(0)} ms: decoding ${decode.toFixed(1)} ms, `
    + `queue ${queue.toFixed(1)} ms, compute ${compute.toFixed(1)} ms `
    + `(model version ${answer.model.version}, request ${answer.request_id})`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function showCurl() {
  const image = state.file ? state.file.name : "image.jpg";
  const every = state.tasks.length > 0 && names().length === state.tasks.length;
  const lines = [`curl -F ${quoted(`image=@${image}`)}`];
  if (!every) lines.push(`-F ${quoted(`tasks=${names().join(",")}`)}`);
  if (at("key").value.trim()) lines.push('-H "Authorization: Bearer $TASKROUTE_API_KEY"');
  lines.push(state.model ? quoted(location.origin + about("/v1/predict")) : `${location.origin}/v1/predict`);
  at("curl").textContent = lines.join(" \\\n  ");
}

async function copy() {
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
    at("copy").textContent = "Copied";
  } catch { // no clipboard without https or permission: leave it selected
    getSelection().selectAllChildren(at("curl"));
    at("copy").textContent = "Selected: copy it";
  }
}

// -- events --------------------------------------------------------------------------------------

at("file").addEventListener("change", () => choose(at("file").files[0]));
at("search").addEventListener("input", showTasks);
at("all").addEventListener("click", () => mark(shown(), true));
at("none").addEventListener("click", () => mark(state.tasks, false));
at("ask").addEventListener("click", ask);
at("copy").addEventListener("click", copy);
at("use-key").addEventListener("click", load);
at("choice").addEventListener("change", () => {
  clearAnswer();
  load();
});
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}

load();
showSamples();
