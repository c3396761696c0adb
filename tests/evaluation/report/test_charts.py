"""Charts show the values that they are given, as SVG; curves are the metrics'."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from tfclip.evaluation.metrics.curves import precision_recall_curve, threshold_curves
from tfclip.evaluation.metrics.multilabel import confusion, micro
from tfclip.evaluation.report import draw_charts
from tfclip.evaluation.report.charts import SMALL, Chart, Line
from tfclip.evaluation.report.draw_charts import COLOURS
from tfclip.evaluation.report.drawing import Drawing, chart_key


def draw(classes=20, pictures=200):
    rng = np.random.default_rng(0)
    truth = rng.random((pictures, classes)) < 0.2
    scores = 0.1 * rng.normal(size=truth.shape) + 0.1 * truth
    return scores, truth, rng.random(truth.shape) < 0.05


def chart_of(line: Line, **options) -> Chart:
    return Chart((line,), "a chart", x_label="x", y_label="y", **options)


def drawn_path(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The strokes of a colour within the axes, as the points of each."""
    root = ElementTree.fromstring(svg)
    (data,) = [
        node.get("d")
        for node in root.iter()
        if node.get("clip-path") and f"{colour})" in node.get("style")
    ]
    strokes: list[list[tuple[float, float]]] = []
    for step, x, y in re.findall(r"([ML]) ([\d.-]+) ([\d.-]+)", data):
        if step == "M":
            strokes.append([])
        strokes[-1].append((float(x), float(y)))
    return strokes


def test_a_line_chart_puts_points_where_they_belong():
    line = Line("a < b 0.1234", [0, 1, 2, 3], [0, 0.5, np.nan, 1])
    reference = Line("rising", [0, 3], [0, 1])
    chart = Chart((line, reference), 'a "chart"', x_label="x", y_label="y & z", marked_x=1.5)
    svg = Drawing()(chart)
    (first, second), ((low, high),) = (drawn_path(svg, colour) for colour in COLOURS[:2])
    assert len(first) == 2 and second == [high]  # the NaN breaks the line
    middle = (low[0] + (high[0] - low[0]) / 3, (low[1] + high[1]) / 2)
    np.testing.assert_allclose(first, [low, middle], atol=0.02)
    assert high[0] > low[0] and high[1] < low[1]
    texts = {node.text for node in ElementTree.fromstring(svg).iter()}
    assert {"0", "1", "2", "3", "y & z", "a < b 0.1234"} <= texts


@pytest.mark.parametrize("values", [[0.25], [3.0, 3.0], [np.nan], [1e-4, 2e-4], [-5, 1e6]])
def test_charts_of_few_or_far_values_are_well_formed(values):
    line = Line("a", np.arange(len(values)), values)
    svg = Drawing()(chart_of(line, y_range=None, legend=False, size=SMALL))
    assert "nan" not in svg and ElementTree.fromstring(svg).get("viewBox") == "0 0 210 170"


def test_charts_of_a_page_share_no_identifier_and_name_no_other_host():
    svgs = [Drawing()(chart_of(Line("a", [0, 1], [0, y], dots=True))) for y in (0.5, 1.0)]
    identifiers = re.findall(r'id="([^"]+)"', "".join(svgs))
    assert len(set(identifiers)) == len(identifiers) > 0
    for svg in svgs:
        used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
        assert used == set(re.findall(r'id="([^"]+)"', svg))
        assert "http" not in svg and "<style" not in svg
        assert not re.search(r"#[0-9a-f]{6}(?!\))", re.sub(r"#c\w+-", "", svg))  # dark mode


@pytest.mark.parametrize("at", [-0.3, 0.07, 5.0], ids=["below all", "within", "above all"])
def test_threshold_curves_are_the_pooled_decisions(at):
    scores, truth, ignore = draw()
    thresholds, shares = threshold_curves(scores, truth, ignore, at)
    assert thresholds[-1] == at and (np.diff(thresholds[:-1]) > 0).all()
    for k in (0, 123, len(thresholds) - 1):
        expected = micro(confusion(scores >= thresholds[k], truth, ignore))
        for share, values in shares.items():
            np.testing.assert_equal(values[k], expected[share])


def test_the_area_under_the_precision_recall_curve_is_the_average_precision():
    scores, truth, _ = draw()
    for c, column in enumerate((scores[:, 0], np.round(scores[:, 1], 1))):
        recall, precision = precision_recall_curve(column, truth[:, c])
        area = (np.diff(recall, prepend=0) * precision).sum()
        assert area == pytest.approx(average_precision_score(truth[:, c], column), abs=1e-9)
        assert (np.diff(recall) > 0).all() and recall[-1] == 1


def test_a_png_is_the_whole_chart():
    lines = [Line(f"a class with the rather long name {c}", [0, 1], [0, c / 9]) for c in range(9)]
    chart = Chart(tuple(lines), "", x_label="x of a chart", y_label="y of a chart")
    picture = Image.open(io.BytesIO(draw_charts.to_png(chart))).convert("RGB")
    pixels = np.asarray(picture)
    assert min(picture.size) > 400 and (np.asarray(picture.convert("L")) < 128).sum() > 2000
    # A label that reaches the edge of the picture is cut.
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()


def test_axes_that_are_drawn_once_have_each_curve_where_it_would_be_drawn():
    curves = [Line("", [0, 0.3, 0.3, 1], [1, 1, 0.5, 0.2]), Line("", [0, 1], [0.7, 0.1])]
    labels = {"x_range": (0, 1), "legend": False}

    def numbers(svg):
        paths = re.findall(r' d="([^"]*)"', svg)
        return [np.array(re.findall(r"-?[\d.]+", path), float) for path in paths]

    svgs = [Drawing()(chart_of(curve, **labels)) for curve in curves]
    for svg, curve in zip(svgs, curves, strict=True):
        chart = chart_of(curve, **labels)
        whole = draw_charts._drawn(draw_charts._figure(chart))
        drawn = draw_charts._element(whole, chart, chart_key(chart))
        for ours, theirs in zip(numbers(svg), numbers(drawn), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.011)
        assert svg[: svg.index(">")] == drawn[: drawn.index(">")]
    assert svgs[0] != svgs[1]


def test_a_chart_that_a_page_has_is_not_drawn_again(tmp_path, monkeypatch):
    charts = [chart_of(Line("a", [0, 1], [0, y])) for y in (0.25, 0.5)]
    svgs = [Drawing()(chart) for chart in charts]
    page = tmp_path / "page.html"
    page.write_text(f"<p>{svgs[0]}</p>\n{svgs[1]}")
    drawn = []
    monkeypatch.setattr(draw_charts, "draw", lambda chart, key: drawn.append(chart) or "new")
    known = Drawing(page)
    assert [known(chart) for chart in charts] == svgs and not drawn
    others = [
        chart_of(Line("b", [0, 1], [0, 0.25])),
        chart_of(Line("a", [0, 1], [0, 0.25]), marked_x=0.5),
        chart_of(Line("a", [0, 1], [0, np.nan])),
        chart_of(Line("a", [0, 1], [0, 0.25], point=(0, 0))),
    ]
    assert [known(chart) for chart in others] == ["new"] * 4
    assert [known(chart) for chart in others] == ["new"] * 4 and len(drawn) == 4
    page.write_bytes(b"\xff\xfe" + svgs[0].encode()[:-3])
    assert [Drawing(page)(chart) for chart in charts] == ["new"] * 2
