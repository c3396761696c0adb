// The threshold sliders of the report page: decisions, and every number that follows from them.
"use strict";

const RATES = ["accuracy", "sensitivity", "specificity", "precision", "f1"];
const COUNTS = ["tp", "fp", "fn", "tn"];
const LABELS = { f1: "F1", tp: "TP", fp: "FP", fn: "FN", tn: "TN" };

const label = (name) => LABELS[name] || name;
const share = (part, whole) => (whole > 0 ? part / whole : NaN);
const shown = (value) => (Number.isNaN(value) ? "–" : value.toFixed(3));
const short = (threshold) => String(Number(threshold.toPrecision(6)));

// The rates of tfclip.evaluation.metrics.multilabel: undefined is NaN, and no mean includes it.
function ratesOf({ tp, fp, fn, tn }) {
  return {
    accuracy: share(tp + tn, tp + fp + fn + tn),
    sensitivity: share(tp, tp + fn),
    specificity: share(tn, tn + fp),
    precision: share(tp, tp + fp),
    f1: tp + fn > 0 ? share(2 * tp, 2 * tp + fp + fn) : NaN,
  };
}

function meanDefined(values) {
  const defined = values.filter((value) => !Number.isNaN(value));
  return share(defined.reduce((sum, value) => sum + value, 0), defined.length);
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function bitsOf(text, length) {
  const bytes = bytesOf(text);
  return Uint8Array.from({ length }, (_, at) => (bytes[at >> 3] >> (7 - (at & 7))) & 1);
}

// What the pictures show and how the classes score, class after class.
class Pictures {
  constructor(data) {
    this.count = data.pictures;
    this.classes = data.classes;
    const cells = this.count * this.classes.length;
    this.scores = new Float32Array(bytesOf(data.scores).buffer);
    this.present = bitsOf(data.present, cells);
    this.difficult = bitsOf(data.difficult, cells);
  }

  counts(place, threshold) {
    const counts = { tp: 0, fp: 0, fn: 0, tn: 0 };
    for (let at = place * this.count; at < (place + 1) * this.count; at += 1) {
      if (this.difficult[at]) continue;
      const predicted = this.scores[at] >= threshold;
      if (this.present[at]) counts[predicted ? "tp" : "fn"] += 1;
      else counts[predicted ? "fp" : "tn"] += 1;
    }
    return counts;
  }

  // Of the pictures that show one class and not the other, how often the other is predicted.
  confused(row, column, threshold) {
    const first = row * this.count;
    const other = column * this.count;
    let pictures = 0;
    let predicted = 0;
    for (let at = 0; at < this.count; at += 1) {
      const known = this.present[first + at] && !this.difficult[first + at];
      if (!known || this.present[other + at]) continue;
      pictures += 1;
      if (this.scores[other + at] >= threshold) predicted += 1;
    }
    return share(predicted, pictures);
  }

  // The names of the classes of one picture, by what was decided.
  decisions(picture, thresholds) {
    const kinds = { found: [], missed: [], wrong: [], difficult: [] };
    this.classes.forEach((name, place) => {
      const at = place * this.count + picture;
      const predicted = this.scores[at] >= thresholds[place];
      if (this.difficult[at]) kinds.difficult.push(name);
      else if (this.present[at]) kinds[predicted ? "found" : "missed"].push(name);
      if (predicted && !this.present[at]) kinds.wrong.push(name);
    });
    return kinds;
  }
}

// Round thresholds for the sliders: whole multiples of 1, 2 or 5 times a power of ten.
function gridOf(scores, fitted) {
  let low = Math.min(...fitted);
  let high = Math.max(...fitted);
  for (const score of scores) {
    if (score < low) low = score;
    if (score > high) high = score;
  }
  const finest = Math.max(high - low, 1e-6) / 500;
  const power = 10 ** Math.floor(Math.log10(finest));
  const factor = [1, 2, 5, 10].find((each) => each * power >= finest * 0.999);
  const step = factor * power;
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step) + 1;
  return {
    first,
    last,
    value: (position) => Number((position * step).toPrecision(9)),
    position: (threshold) => Math.min(last, Math.max(first, Math.round(threshold / step))),
  };
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Sliders {
  constructor(section) {
    this.section = section;
    this.data = JSON.parse(section.querySelector("script").textContent);
    this.pictures = new Pictures(this.data);
    this.thresholds = [...this.data.fitted];
    this.counts = [];
    this.grid = gridOf(this.pictures.scores, this.data.fitted);
    this.scope = section.parentElement;
    this.status = section.querySelector("[role=status]");
    this.every = this.inputs(section.querySelector(".every"), (threshold) =>
      this.set(this.thresholds.map(() => threshold)),
    );
    this.rows = this.data.classes.map((name, place) => this.row(name, place));
    this.buttons();
    this.set([...this.data.fitted]);
  }

  // A slider and a number that say the same threshold.
  inputs(place, chosen) {
    const range = place.querySelector("input[type=range]");
    const number = place.querySelector("input[type=number]");
    range.min = this.grid.first;
    range.max = this.grid.last;
    range.addEventListener("input", () => chosen(this.grid.value(Number(range.value))));
    number.addEventListener("change", () => {
      const threshold = Number.parseFloat(number.value);
      if (Number.isFinite(threshold)) chosen(threshold);
    });
    return { range, number };
  }

  row(name, place) {
    const described = `threshold of ${name}`;
    const range = element("input", { type: "range", step: "1", "aria-label": `slider: ${described}` });
    const number = element("input", { type: "number", step: "any", "aria-label": described });
    const cells = [...COUNTS, ...RATES].map((figure) =>
      element("td", { "data-label": label(figure), "data-figure": figure }),
    );
    const row = element(
      "tr",
      { "data-class": name },
      element("th", { scope: "row" }, name),
      element("td", { class: "slide" }, range),
      element("td", { "data-label": "threshold" }, number),
      ...cells,
    );
    this.section.querySelector(".moving tbody").append(row);
    const inputs = this.inputs(row, (threshold) => {
      this.set(this.thresholds.with(place, threshold));
    });
    return { ...inputs, cells };
  }

  set(thresholds) {
    thresholds.forEach((threshold, place) => {
      if (this.counts[place] && threshold === this.thresholds[place]) return;
      this.counts[place] = this.pictures.counts(place, threshold);
      this.place(this.rows[place], threshold);
      const figures = { ...this.counts[place], ...ratesOf(this.counts[place]) };
      for (const cell of this.rows[place].cells) {
        const value = figures[cell.dataset.figure];
        cell.textContent = COUNTS.includes(cell.dataset.figure) ? value : shown(value);
      }
    });
    this.thresholds = thresholds;
    this.means();
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.follow());
  }

  place({ range, number }, threshold) {
    range.value = this.grid.position(threshold);
    range.setAttribute("aria-valuetext", short(threshold));
    number.value = short(threshold);
  }

  means() {
    const pooled = { tp: 0, fp: 0, fn: 0, tn: 0 };
    for (const counts of this.counts) {
      for (const name of COUNTS) pooled[name] += counts[name];
    }
    const each = this.counts.map(ratesOf);
    const together = ratesOf(pooled);
    for (const rate of RATES) {
      const mean = meanDefined(each.map((rates) => rates[rate]));
      this.section.querySelector(`[data-mean=${rate}]`).textContent = shown(mean);
      this.section.querySelector(`[data-pooled=${rate}]`).textContent = shown(together[rate]);
    }
    const listed = COUNTS.map((name) => `${label(name)} ${pooled[name]}`).join(", ");
    this.section.querySelector(".counts").textContent = listed;
    const same = this.thresholds.every((threshold) => threshold === this.thresholds[0]);
    this.place(this.every, same ? this.thresholds[0] : this.data.fitted_for_all);
    if (!same) this.every.number.value = "";
    this.section.querySelector(".every output").textContent = same ? "" : "different by class";
  }

  // The confusion matrix and the labels under the pictures, once for each frame.
  follow() {
    this.scope.querySelectorAll(".matrix tbody tr").forEach((row, shownClass) => {
      row.querySelectorAll("td").forEach((cell, predictedClass) => {
        if (shownClass === predictedClass) return;
        const threshold = this.thresholds[predictedClass];
        const value = this.pictures.confused(shownClass, predictedClass, threshold);
        const percent = Math.round(100 * value);
        cell.textContent = Number.isNaN(value) ? "" : percent;
        cell.style.setProperty("--share", `${percent || 0}%`);
      });
    });
    for (const figure of this.scope.querySelectorAll("figure[data-key]")) {
      const picture = this.data.examples[figure.dataset.key];
      if (picture !== undefined) this.relabel(figure, picture);
    }
    this.mark();
    this.write();
  }

  relabel(figure, picture) {
    const kinds = this.pictures.decisions(picture, this.thresholds);
    const marks = { found: "✓", missed: "○ missed:", wrong: "✗ wrong:", difficult: "difficult:" };
    const lines = Object.entries(kinds)
      .filter(([, names]) => names.length)
      .map(([kind, names]) =>
        element("span", { class: kind }, `${marks[kind]} ${names.join(", ")}`),
      );
    const nothing = element("span", {}, "nothing shown, nothing predicted");
    figure.querySelector("figcaption").replaceChildren(...(lines.length ? lines : [nothing]));
  }

  // A line in the chart of one threshold for all classes, where there is one.
  mark() {
    const chart = this.scope.querySelector(".charts svg[data-axes]");
    if (!chart) return;
    chart.querySelector(".moved")?.remove();
    const same = this.thresholds.every((threshold) => threshold === this.thresholds[0]);
    if (!same) return;
    const [left, right, low, high, top, bottom] = chart.dataset.axes.split(" ").map(Number);
    const part = (this.thresholds[0] - low) / (high - low);
    const x = left + Math.min(1, Math.max(0, part)) * (right - left);
    const line = document.createElementNS(chart.namespaceURI, "path");
    line.setAttribute("class", "moved");
    line.setAttribute("d", `M${x} ${top}V${bottom}`);
    chart.append(line);
  }

  // The file that `export --thresholds` takes: the fitted one with the thresholds chosen here.
  json() {
    const moved = this.thresholds.some((threshold, place) => threshold !== this.data.fitted[place]);
    const names = this.data.classes;
    const chosen = { ...this.data.thresholds };
    chosen.per_class = Object.fromEntries(names.map((name, at) => [name, this.thresholds[at]]));
    if (moved) chosen.chosen_by_hand_on = `${this.data.benchmark}, split ${this.data.split}`;
    return `${JSON.stringify(chosen, null, 2)}\n`;
  }

  write() {
    const area = this.section.querySelector("textarea");
    if (area) area.value = this.json();
  }

  buttons() {
    const on = (selector, action) => {
      this.section.querySelector(selector)?.addEventListener("click", action);
    };
    on(".fitted", () => this.set([...this.data.fitted]));
    on(".copy", () => this.copy());
    on(".save", () => {
      const blob = new Blob([this.json()], { type: "application/json" });
      const link = element("a", { href: URL.createObjectURL(blob), download: "thresholds.json" });
      link.click();
      URL.revokeObjectURL(link.href);
      this.status.textContent = "Saved as thresholds.json.";
    });
  }

  async copy() {
    this.write();
    try {
      await navigator.clipboard.writeText(this.json());
      this.status.textContent = "Copied.";
    } catch {
      this.section.querySelector("details").open = true;
      this.section.querySelector("textarea").select();
      this.status.textContent = "The browser refuses to copy: the text is selected below.";
    }
  }
}

document.querySelectorAll(".sliders").forEach((section) => new Sliders(section));
document.body.dataset.ready = "yes";
