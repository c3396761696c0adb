// The heatmap over a picture: in red, where in it a label scores.

import { element } from "./elements.js";

const RED = [230, 0, 0];
const MOST_ALPHA = 190;

function paint(canvas, values, grid) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(grid, grid);
  for (let at = 0; at < grid * grid; at += 1) {
    image.data.set([...RED, MOST_ALPHA * (values.charCodeAt(at) / 255) ** 2], 4 * at);
  }
  context.putImageData(image, 0, 0);
}

// The picture, with the heatmap of `picture.mapped` where there is one.
export function drawPictureAndMap(picture) {
  const image = element("img", { src: picture.url, alt: `Picture ${picture.name}` });
  const maps = picture.heatmap;
  if (!maps) return element("div", { class: "shown" }, image);
  const at = maps.labels.indexOf(picture.mapped);
  const [x, y] = maps.places[at].map((share) => Math.round(100 * share));
  const canvas = element("canvas", { width: maps.grid, height: maps.grid, role: "img",
    "aria-label": `Heatmap of ${picture.mapped}: highest at ${x} % from the left, ${y} % from the top` });
  paint(canvas, atob(maps.maps[at]), maps.grid);
  const place = element("span", { class: "place", "aria-hidden": "true" });
  place.style.left = `${x}%`;
  place.style.top = `${y}%`;
  return element("div", { class: "shown mapped" }, image, canvas, place);
}

// The choice of the label whose heatmap is shown.
export function drawMapChoice(picture, labels, id, changed) {
  const select = element("select", { id, onchange: () => { picture.mapped = select.value; changed(id); } },
    ...labels.map((label) => element("option", { value: label, selected: label === picture.mapped }, label)));
  return element("div", {}, element("p", { class: "row" }, element("label", { for: id }, "Heatmap of"), select),
    element("p", { class: "quiet" }, "Red: where parts of the picture score higher for this label than other parts. The ring is the highest place."));
}
