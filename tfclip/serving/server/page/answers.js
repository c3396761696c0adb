// The answers: for each picture a table of labels, scores, probabilities and decisions.

import { byId, element } from "./elements.js";
import { drawMapChoice, drawPictureAndMap } from "./heatmap.js";

const MOST_SHOWN = 8;

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

// From the outputs of `classify` or `similarity` to one object for each picture.
export function readAnswers(signature, outputs, labels, scale) {
  return outputs.valid.map((valid, at) => {
    if (signature === "classify") {
      return { valid, labels: outputs.labels[at], scores: outputs.scores[at],
        probabilities: outputs.probabilities[at], predicted: outputs.predicted[at] };
    }
    const logits = outputs.logits_per_image[at];
    const best = logits.indexOf(Math.max(...logits));
    return { valid, labels, scores: logits.map((value) => value / scale),
      probabilities: softmax(logits), predicted: logits.map((_, label) => label === best) };
  });
}

export function drawAnswers(pictures, thresholds, actions) {
  byId("empty").hidden = pictures.length > 0;
  byId("clear").hidden = pictures.length === 0;
  byId("answers").replaceChildren(
    ...pictures.map((picture, at) => drawPicture(picture, `map-${at}`, thresholds, actions)));
}

// One object for each label: decided ones first, then by score.
function ranked(answer, thresholds) {
  return answer.labels.map((label, at) => ({
    label, score: answer.scores[at], probability: answer.probabilities[at],
    threshold: thresholds ? thresholds[at] : null,
    decided: thresholds ? answer.scores[at] >= thresholds[at] : answer.predicted[at],
  })).sort((a, b) => Number(b.decided) - Number(a.decided) || b.score - a.score);
}

function drawPicture(picture, id, thresholds, actions) {
  const right = element("div", {}, element("h3", {}, picture.name));
  const answer = picture.answer;
  if (picture.error) right.append(element("p", {}, picture.error));
  else if (!answer) right.append(element("p", { class: "quiet" }, "Not answered yet."));
  else if (!answer.valid) right.append(element("p", {}, "This is no picture that decodes: JPEG, PNG, GIF, BMP and WebP of at most 50 million pixels do."));
  else right.append(drawTable(picture, answer, thresholds));
  const buttons = element("p", { class: "row" });
  if (answer && answer.valid) {
    const labels = ranked(answer, thresholds).map((row) => row.label);
    if (picture.heatmap) right.append(drawMapChoice(picture, labels, id, actions.redraw));
    buttons.append(element("button", { type: "button", class: "plain", id: `${id}-button`,
      "aria-pressed": String(Boolean(picture.heatmap)), "aria-label": `Heatmap of ${picture.name}`,
      onclick: () => actions.map(picture, labels[0], id) }, picture.heatmap ? "Hide heatmap" : "Heatmap"));
  }
  if (actions.similar && answer && answer.valid) buttons.append(element("button", { type: "button", class: "plain",
    onclick: () => actions.similar(picture), "aria-label": `Find pictures like ${picture.name}` }, "Find similar"));
  buttons.append(element("button", { type: "button", class: "plain",
    onclick: () => actions.remove(picture), "aria-label": `Remove ${picture.name}` }, "Remove"));
  right.append(buttons);
  return element("article", { class: "picture" }, drawPictureAndMap(picture), right);
}

function drawTable(picture, answer, thresholds) {
  const rows = ranked(answer, thresholds);
  const decided = rows.filter((row) => row.decided).length;
  const shown = picture.all ? rows : rows.slice(0, Math.max(MOST_SHOWN, decided));
  // Without thresholds the server answers the softmax over the labels, and the best one is predicted.
  const heads = [["Label"], ["Score"], ...(thresholds ? [["Threshold"], ["Probability"]] : [["Softmax"]]),
    ["", "bar"], [thresholds ? "Decided" : "Best"]];
  const table = element("table", {},
    element("caption", { class: "hidden" }, `Labels of ${picture.name}`),
    element("thead", {}, element("tr", {}, ...heads.map(([text, kind]) => text
      ? element("th", { scope: "col", class: kind }, text) : element("td", { class: kind })))),
    element("tbody", {}, ...shown.map((row) => element("tr", { class: row.decided ? "yes" : null },
      element("th", { scope: "row" }, row.label),
      element("td", {}, row.score.toFixed(3)),
      ...(thresholds ? [element("td", {}, row.threshold.toFixed(3))] : []),
      element("td", {}, `${(100 * row.probability).toFixed(1)} %`),
      element("td", { class: "bar", "aria-hidden": "true" },
        element("meter", { min: 0, max: 1, value: row.probability })),
      element("td", {}, row.decided ? "yes" : "no")))));
  if (shown.length === rows.length) return table;
  const more = element("button", { type: "button", class: "plain", onclick: (event) => {
    picture.all = true;
    event.target.parentElement.replaceWith(drawTable(picture, answer, thresholds));
  } }, `Show all ${rows.length} labels`);
  return element("div", {}, table, more);
}
