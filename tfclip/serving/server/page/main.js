// The page: pictures and labels in, answers out.

import { drawAnswers, readAnswers } from "./answers.js";
import { byId, element } from "./elements.js";
import { base64, describe, heatmap, pictureOf, predict, search, ServerError, useToken } from "./server.js";
import { drawSnippets } from "./snippets.js";
import { Thresholds } from "./thresholds.js";

const state = { model: null, pictures: [], source: "own", typed: [], thresholds: null, turn: 0 };

const tell = (text) => { byId("progress").textContent = text; };

function fail(error) {
  const box = byId("problem");
  box.hidden = !error;
  box.textContent = error ? error.message : "";
  if (error instanceof ServerError && error.status === 401) {
    byId("token-form").hidden = false;
    byId("token").focus();
  }
}

const isTyped = () => state.source === "typed";
const labels = () => (isTyped() ? state.typed : state.model.labels);
const signature = () => (isTyped() ? "similarity"
  : state.model.labels.length ? "classify" : "encode_image");

function draw() {
  const thresholds = isTyped() || !state.thresholds ? null : state.thresholds.values();
  byId("thresholds").hidden = isTyped() || !state.model.thresholds;
  drawAnswers(state.pictures, thresholds, {
    remove: (picture) => {
      state.pictures = state.pictures.filter((other) => other !== picture);
      URL.revokeObjectURL(picture.url);
      draw();
      byId("files").focus();
    },
    similar: state.model.search && findSimilar,
    map: showMap,
    redraw: (id) => { draw(); byId(id).focus(); },
  });
  drawSnippets(state.model, signature(), state.pictures.map((one) => one.name), labels());
}

function drawLabels() {
  byId("label-form").hidden = !isTyped();
  byId("chips").replaceChildren(...labels().map((label) => element("li", {}, label,
    ...(isTyped() ? [element("button", { type: "button", "aria-label": `Remove label ${label}`,
      onclick: () => {
        state.typed = state.typed.filter((other) => other !== label);
        byId("label").focus();
        answerAnew();
      } }, "✕")] : []))));
  // What scrolls must be reachable by keyboard.
  const chips = byId("chips");
  if (chips.scrollHeight > chips.clientHeight) chips.tabIndex = 0;
  else chips.removeAttribute("tabindex");
}

// Parts of as many pictures as a request may hold, by number and by size.
function parts(pictures) {
  const found = [[]];
  let size = 0;
  for (const picture of pictures) {
    const own = picture.content.b64.length + 20;
    const last = found[found.length - 1];
    if (last.length && (last.length >= Math.min(16, state.model.limits.pictures)
        || size + own > state.model.limits.body_bytes - 100000)) {
      found.push([picture]);
      size = own;
    } else { last.push(picture); size += own; }
  }
  return found.filter((part) => part.length);
}

function answerAnew() {
  state.turn += 1;
  for (const picture of state.pictures) picture.answer = picture.heatmap = null;
  drawLabels();
  answerAll();
}

async function answerAll(chosen = state.pictures) {
  const turn = state.turn;
  fail(null);
  if (isTyped() && !state.typed.length) {
    for (const picture of state.pictures) picture.answer = null;
    tell(state.pictures.length ? "Type a label to get an answer." : "");
    draw();
    return;
  }
  if (signature() === "encode_image") { draw(); return; }
  try {
    for (const part of parts(chosen.filter((picture) => picture.content))) {
      tell(`Asking for ${part.length} of ${chosen.length} pictures …`);
      const inputs = { image_bytes: part.map((picture) => picture.content) };
      if (isTyped()) inputs.text = state.typed;
      const [asked, names, scale] = [signature(), labels(), state.model.logit_scale];
      const outputs = await predict(state.model.model, asked, inputs);
      if (turn !== state.turn) return; // Other labels were chosen since: all is asked anew.
      readAnswers(asked, outputs, names, scale).forEach((answer, at) => { part[at].answer = answer; });
    }
    tell(chosen.length ? `Answered: ${chosen.length} ${chosen.length === 1 ? "picture" : "pictures"}.` : "");
  } catch (error) {
    tell("");
    fail(error);
  }
  draw();
}

async function showMap(picture, label, id) {
  const turn = state.turn;
  fail(null);
  if (picture.heatmap) {
    picture.heatmap = null;
    tell("");
  } else {
    tell(`Computing where the labels score in ${picture.name} …`);
    try {
      const content = { picture: picture.content };
      if (isTyped()) content.texts = state.typed;
      const maps = await heatmap(content);
      if (turn !== state.turn) return; // Other labels were chosen since.
      picture.heatmap = maps;
      picture.mapped = label;
      tell(`The heatmap of ${picture.name} is shown.`);
    } catch (error) {
      tell("");
      fail(error);
    }
  }
  draw();
  (byId(id) || byId(`${id}-button`) || byId("answers")).focus();
}

async function addFiles(files) {
  const limit = state.model.limits.body_bytes * 0.7;
  const added = [];
  for (const file of files) {
    const picture = { name: file.name || "pasted picture", url: URL.createObjectURL(file) };
    if (file.size > limit) picture.error = `${Math.round(file.size / 1e6)} MB are more than this server takes.`;
    else picture.content = await base64(file);
    added.push(picture);
  }
  state.pictures = [...state.pictures, ...added].slice(-64);
  draw();
  await answerAll(isTyped() && !state.typed.length ? state.pictures : added);
}

async function showHits(content, what) {
  fail(null);
  tell("Searching …");
  try {
    const hits = await search(content);
    const urls = await Promise.all(hits.map((hit) => pictureOf(hit.row)));
    byId("hits").replaceChildren(...hits.map((hit, at) => {
      const text = hit.captions[0] || hit.labels.join(", ");
      return element("li", {}, element("img", { src: urls[at], alt: text || hit.key, title: hit.key }),
        element("p", {}, `${hit.cosine.toFixed(3)} ${text}`));
    }));
    tell(`${hits.length} pictures nearest to ${what}.`);
  } catch (error) {
    tell("");
    fail(error);
  }
}

async function findSimilar(picture) {
  await showHits({ picture: picture.content }, picture.name);
  byId("search").scrollIntoView();
}

function listen() {
  byId("files").addEventListener("change", (event) => { addFiles([...event.target.files]); event.target.value = ""; });
  const drop = byId("drop");
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    addFiles([...event.dataTransfer.files]);
  });
  // A file that misses the box must not replace the page.
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  window.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData ? event.clipboardData.files : [])];
    if (files.length) { event.preventDefault(); addFiles(files); }
  });
  byId("clear").addEventListener("click", () => {
    for (const picture of state.pictures) URL.revokeObjectURL(picture.url);
    state.pictures = [];
    tell("");
    draw();
    byId("files").focus();
  });
  for (const choice of document.querySelectorAll("input[name=source]")) {
    choice.addEventListener("change", () => {
      state.source = choice.value;
      answerAnew();
    });
  }
  byId("label-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("label").value.trim();
    byId("label").value = "";
    if (!text || state.typed.includes(text)) return;
    state.typed = [...state.typed, text];
    answerAnew();
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("query").value.trim();
    if (text) showHits({ text }, `“${text}”`);
  });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken(byId("token").value);
    start();
  });
}

async function start() {
  try {
    state.model = await describe();
  } catch (error) {
    byId("about").textContent = "The model is not described.";
    fail(error);
    return;
  }
  fail(null);
  byId("token-form").hidden = true;
  const model = state.model;
  const canType = model.signatures.includes("similarity");
  const hasPictures = model.signatures.includes("encode_image");
  byId("own-choice").hidden = !model.labels.length;
  byId("typed-choice").hidden = !canType;
  byId("sources").hidden = !(model.labels.length && canType);
  state.source = model.labels.length || !canType ? "own" : "typed";
  document.querySelector(`input[name=source][value=${state.source}]`).checked = true;
  byId("search").hidden = !model.search;
  if (model.search) byId("query-label").textContent = `Search ${model.search.pictures} pictures`;
  byId("search-form").hidden = !model.signatures.includes("encode_text");
  byId("about").textContent = `Model ${model.model}, version ${model.version}. `
    + (model.labels.length ? `${model.labels.length} labels. ` : "No labels in the export. ")
    + (canType ? "Labels can be typed." : "No text tower: labels cannot be typed.");
  if (!hasPictures) fail(new Error("This export takes no pictures; only its REST and gRPC interface can be used."));
  else if (!model.labels.length && !canType) fail(new Error("This export has neither labels nor a text tower: it only embeds pictures."));
  state.thresholds = new Thresholds(model, draw);
  drawLabels();
  draw();
  document.body.dataset.ready = "yes";
}

listen();
start();
