// The threshold sliders, with the sensitivity and specificity of the calibration beside them.

import { byId, element } from "./elements.js";

const PER_CENT = (share) => (share == null ? "unknown" : `${(100 * share).toFixed(1)} %`);

// The share at a threshold: between two points that were counted, on the line between them; above
// all scores `beyond`.
export function shareAt(thresholds, shares, threshold, beyond) {
  if (!shares) return null;
  const last = thresholds.length - 1;
  if (threshold <= thresholds[0]) return shares[0];
  if (threshold > thresholds[last]) return beyond;
  const above = thresholds.findIndex((t) => t >= threshold);
  const [low, high] = [thresholds[above - 1], thresholds[above]];
  const part = (threshold - low) / (high - low);
  return shares[above - 1] * (1 - part) + shares[above] * part;
}

export class Thresholds {
  constructor(model, changed) {
    this.labels = model.labels;
    this.fitted = model.thresholds;
    this.points = model.operating_points;
    this.changed = changed;
    this.mode = "fitted";
    this.one = null;
    this.each = this.fitted ? [...this.fitted] : null;
    byId("thresholds").hidden = !this.fitted;
    if (!this.fitted) return;
    const known = this.points ? this.points.thresholds : this.fitted;
    this.low = Math.min(...known, ...this.fitted);
    this.high = Math.max(...known, ...this.fitted);
    if (this.low === this.high) { this.low -= 0.1; this.high += 0.1; }
    this.one = this.fitted.reduce((sum, value) => sum + value, 0) / this.fitted.length;
    this.one = Math.min(this.high, Math.max(this.low, this.one));
    for (const choice of document.querySelectorAll("input[name=mode]")) {
      choice.onchange = () => { this.mode = choice.value; this.draw(); this.changed(); };
      choice.checked = choice.value === this.mode;
    }
    this.draw();
  }

  // The thresholds in use, in the order of the labels; null without any.
  values() {
    if (!this.fitted) return null;
    if (this.mode === "one") return this.labels.map(() => this.one);
    return this.mode === "each" ? this.each : this.fitted;
  }

  draw() {
    const place = byId("sliders");
    place.replaceChildren();
    place.classList.toggle("many", this.mode === "each");
    // What scrolls must be reachable by keyboard.
    if (this.mode === "each") place.tabIndex = 0; else place.removeAttribute("tabindex");
    if (this.mode === "fitted") {
      if (!this.points) place.append(element("p", { class: "quiet" },
        "This export holds no calibration scores: sensitivity and specificity are not known."));
      return;
    }
    if (this.mode === "one") {
      place.append(this.slider("All labels", this.one, this.points && this.points.all,
        (value) => { this.one = value; }));
      return;
    }
    this.labels.forEach((label, at) => {
      const shares = this.points && this.points.per_class[label];
      place.append(this.slider(label, this.each[at], shares, (value) => { this.each[at] = value; }));
    });
  }

  slider(name, start, shares, set) {
    const told = element("output");
    const input = element("input", {
      type: "range", min: this.low, max: this.high, step: (this.high - this.low) / 400,
    });
    input.value = start;
    const tell = (value) => {
      let text = `threshold ${value.toFixed(3)}`;
      if (shares) {
        const at = (name, beyond) =>
          PER_CENT(shareAt(this.points.thresholds, shares[name], value, beyond));
        text += `, sensitivity ${at("sensitivity", 0)}, specificity ${at("specificity", 1)}`;
      }
      told.value = text;
      input.setAttribute("aria-valuetext", text);
    };
    tell(start);
    input.addEventListener("input", () => { set(Number(input.value)); tell(Number(input.value)); this.changed(); });
    return element("label", { class: "slider" }, element("span", {}, name), input, told);
  }
}
