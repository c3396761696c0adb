"""The sliders of the report page: exact data, and in Chromium the numbers of scikit-learn."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from tfclip import evaluate
from tfclip.evaluation.report.html_sliders import MOST_CELLS, slider_data
from tfclip.export import ExportFlags

SHOWN = ("accuracy", "sensitivity", "specificity", "precision", "f1")


def measurement(pictures, classes):
    rng = np.random.default_rng(0)
    arrays = {
        "test_scores": rng.normal(0.2, 0.05, (pictures, classes)).astype(np.float32),
        "test_present": rng.random((pictures, classes)) < 0.1,
        "test_difficult": rng.random((pictures, classes)) < 0.02,
        "test_keys": np.array([f"picture {row}" for row in range(pictures)]),
        "class_names": np.array([f"class {c}" for c in range(classes)]),
    }
    per_class = {name: {"threshold": 0.2} for name in arrays["class_names"].tolist()}
    figures = {"split": "test", "per_class": per_class, "global": {"threshold": 0.2}}
    return figures, arrays


def test_scores_of_5000_pictures_and_100_classes_take_less_than_5_megabytes(tmp_path):
    figures, arrays = measurement(5000, 100)
    data = slider_data(tmp_path, "voc", figures, arrays, ["picture 17", "no such picture"])
    assert len(json.dumps(data)) < 5e6
    assert data["pictures"] == data["all_pictures"] == 5000
    assert data["examples"] == {"picture 17": 17} and data["thresholds"] is None
    scores = np.frombuffer(base64.b64decode(data["scores"]), "<f4").reshape(100, 5000)
    np.testing.assert_array_equal(scores.T, arrays["test_scores"])
    for name in ("present", "difficult"):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(data[name]), np.uint8))
        np.testing.assert_array_equal(bits.reshape(100, 5000).T, arrays[f"test_{name}"])


def test_of_more_scores_some_pictures_are_taken_and_counted(tmp_path):
    figures, arrays = measurement(20_000, 100)
    data = slider_data(tmp_path, "voc", figures, arrays, ["picture 17"])
    assert data["all_pictures"] == 20_000 and 4000 < data["pictures"] < 5010
    assert data["pictures"] * 100 <= MOST_CELLS + 100
    scores = np.frombuffer(base64.b64decode(data["scores"]), "<f4").reshape(100, -1)
    np.testing.assert_array_equal(
        scores[:, data["examples"]["picture 17"]], arrays["test_scores"][17]
    )


@pytest.fixture(scope="module")
def run(tiny_run, voc_records, tmp_path_factory):
    """A run with a measurement and its page."""
    run = tmp_path_factory.mktemp("sliders") / "run"
    shutil.copytree(tiny_run, run)
    words = (run, "voc", "--records", voc_records, "--objective", "sensitivity>=0.9")
    assert evaluate.main([*map(str, words)]) == 0
    return run


def rates(run: Path, thresholds) -> np.ndarray:
    """scikit-learn's rates (C,5) of the test split at thresholds (C,), in the order of `SHOWN`."""
    with np.load(run / "metrics" / "voc_scores.npz") as kept:
        columns = zip(
            kept["test_scores"].astype(np.float64).T,
            kept["test_present"].T,
            kept["test_difficult"].T,
            thresholds,
            strict=True,
        )
        rows = []
        for scores, present, difficult, threshold in columns:
            truth, predicted = present[~difficult], (scores >= threshold)[~difficult]
            options = {"zero_division": np.nan}
            sensitivity = recall_score(truth, predicted, **options)
            f1 = f1_score(truth, predicted, **options) if truth.any() else np.nan
            rows.append(
                [
                    accuracy_score(truth, predicted),
                    sensitivity,
                    recall_score(~truth, ~predicted, **options),
                    precision_score(truth, predicted, **options),
                    f1,
                ]
            )
    return np.array(rows, np.float64)


def shown_rates(page) -> np.ndarray:
    """The rates (C,5) that the page shows."""
    cells = page.evaluate(
        """(rates) => [...document.querySelectorAll(".moving tbody tr")].map((row) =>
          rates.map((rate) => row.querySelector(`[data-figure=${rate}]`).textContent))""",
        list(SHOWN),
    )
    return np.array([[np.nan if text == "–" else float(text) for text in row] for row in cells])


def check_numbers(page, run, thresholds):
    expected = rates(run, thresholds)
    np.testing.assert_allclose(shown_rates(page), expected, atol=5.1e-4)
    for rate, mean in zip(SHOWN, np.nanmean(expected, axis=0), strict=True):
        assert float(page.inner_text(f"[data-mean={rate}]")) == pytest.approx(mean, abs=5.1e-4)


@pytest.fixture(scope="module")
def page(run, browser):
    """The page, opened from the file; what it asks for elsewhere or complains of fails the test."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    wrong: list[str] = []
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    assert not wrong


@pytest.mark.slow
def test_numbers_follow_the_sliders_as_scikit_learn_counts(page, run):
    fitted = json.loads((run / "thresholds.json").read_text())
    names = fitted["class_names"]
    thresholds = np.array([fitted["per_class"][name] for name in names])
    check_numbers(page, run, thresholds)
    # One for all, by the keyboard.
    every = page.locator(".every input[type=range]")
    every.focus()
    for key in ("ArrowRight", "PageDown"):
        page.keyboard.press(key)
    threshold = float(page.input_value(".every input[type=number]"))
    check_numbers(page, run, np.full(len(names), threshold))
    page.evaluate("() => new Promise(requestAnimationFrame)")
    line, fitted_line, width, axes = page.evaluate(
        """() => {
          const chart = document.querySelector(".charts svg");
          const x = (selector) => chart.querySelector(selector).getBoundingClientRect().x;
          const { width } = chart.getBoundingClientRect();
          return [x(".moved"), x("path[style*='--mark']"), width, chart.dataset.axes];
        }"""
    )
    left, right, low, high = map(float, axes.split()[:4])
    moved = (threshold - fitted["global"]) / (high - low) * (right - left) * width / 400
    assert line - fitted_line == pytest.approx(moved, abs=1)
    # One class alone, by its number and then by its slider.
    page.fill(".moving tr:nth-child(3) input[type=number]", "0.123")
    page.keyboard.press("Enter")
    page.locator(".moving tr:nth-child(5) input[type=range]").focus()
    page.keyboard.press("Home")
    thresholds = np.full(len(names), threshold)
    thresholds[2] = 0.123
    thresholds[4] = float(page.input_value(".moving tr:nth-child(5) input[type=number]"))
    check_numbers(page, run, thresholds)
    assert shown_rates(page)[4, 1] == 1  # everything is predicted
    assert page.inner_text(".every output") == "different by class"

    # The matrix and the labels under the pictures follow.
    page.evaluate("() => new Promise(requestAnimationFrame)")
    with np.load(run / "metrics" / "voc_scores.npz") as kept:
        present, difficult = kept["test_present"], kept["test_difficult"]
        predicted = kept["test_scores"].astype(np.float64) >= thresholds
        keys = kept["test_keys"].tolist()
    cells = page.locator(".matrix tbody tr:nth-child(1) td").all_inner_texts()
    for column in range(1, len(names)):
        those = present[:, 0] & ~difficult[:, 0] & ~present[:, column]
        if those.any():
            share = predicted[those, column].mean()
            assert abs(int(cells[column]) - 100 * share) <= 0.5 + 1e-9
    for figure in page.locator("figure[data-key]").all()[:5]:
        row = keys.index(figure.get_attribute("data-key"))
        wrong = [names[c] for c in np.flatnonzero(predicted[row] & ~present[row])]
        text = figure.locator("figcaption").inner_text()
        assert not wrong or f"✗ wrong: {', '.join(wrong)}" in text

    # What is copied is what `export --thresholds` takes.
    page.click("text=Copy thresholds as JSON")
    page.wait_for_selector("[role=status]:has-text('Copied.')")
    chosen = run.parent / "chosen.json"
    chosen.write_text(page.evaluate("navigator.clipboard.readText()"))
    flags = ExportFlags(run, run.parent / "out", thresholds=str(chosen))
    assert flags.classifier().thresholds == pytest.approx(thresholds, abs=0)
    page.click("text=Back to the fitted thresholds")
    check_numbers(page, run, [fitted["per_class"][name] for name in names])


@pytest.mark.slow
def test_the_page_fits_and_is_accessible_in_every_width_light_and_dark(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for width, scheme in ((1280, "light"), (768, "dark"), (400, "light"), (400, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        assert not is_wide, width
        if (width, scheme) in ((1280, "light"), (400, "dark")):
            found = axe.run(page)
            assert found.violations_count == 0, found.generate_report()
    # Terms are explained where they stand, and in the glossary.
    term = page.locator("a.term", has_text="sensitivity").first
    assert "pictures with a class for which it is predicted" in term.get_attribute("title")
    assert page.locator(term.get_attribute("href")).inner_text() == "sensitivity"
