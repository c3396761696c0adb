"""The report page: one file, every figure in it, nothing fetched, nothing unescaped."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tfclip.evaluation.report.charts import SMALL, Line, line_chart, matrix_chart
from tfclip.evaluation.report.examples import (
    RETRIEVAL_EXAMPLES,
    jpeg_of,
    read_examples,
    write_examples,
)
from tfclip.evaluation.report.html_page import write_page
from tfclip.evaluation.report.html_parts import table


def test_page_holds_figures_curves_and_examples_and_fetches_nothing(tmp_path):
    sides = {"r1": 0.125, "r5": 0.5, "r10": 0.75, "median_rank": 4.0}
    figures = {"image_to_text": sides, "text_to_image": sides, "images": 8, "captions": 40}
    figures |= {"records": "records/flickr8k", "split": "test"}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "retrieval.json").write_text(json.dumps(figures))
    (tmp_path / "config.json").write_text('{"recipe": "<script>"}')
    (tmp_path / "log.csv").write_text("epoch,loss,val_loss,logit_scale\n0,3.5,,20\n1,3.1,3.3,nan\n")
    jpeg = jpeg_of(np.full((32, 32, 3), 200, np.uint8))
    query = {"query": 'two <dogs> & "cats"', "key": "a/1", "score": 0.5, "right": True}
    write_examples(tmp_path / RETRIEVAL_EXAMPLES, [{**query, "jpeg": jpeg}])
    assert read_examples(tmp_path / RETRIEVAL_EXAMPLES)[0]["jpeg"] == jpeg
    page = write_page(tmp_path).read_text()
    assert "0.125" in page and "0.750" in page
    assert "data:image/jpeg;base64,/9j/" in page
    assert "two &lt;dogs&gt; &amp; &quot;cats&quot;" in page
    assert "<script>" not in page
    assert "val_loss" in page and page.count("<svg") == 2
    assert ">1</text>" in page and ">2</text>" in page and ">1.2</text>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page


def test_a_line_chart_puts_points_where_they_belong():
    line = Line("a < b", [0, 1, 2, 3], [0, 0.5, np.nan, 1], point=(3, 1), dots=True)
    svg = line_chart([line], x_label="x", y_label="y & z", at=1.5).split("<p class")[0]
    root = ElementTree.fromstring(svg)
    circles = [node for node in root.iter() if node.tag == "circle"]
    where = [(float(c.get("cx")), float(c.get("cy"))) for c in circles]
    left, right, top, bottom = 52, 380 - 12, 10, 270 - 40
    middle = (left + (right - left) / 3, (top + bottom) / 2)
    expected = [(right, top), (left, bottom), middle, (right, top)]
    np.testing.assert_allclose(where, expected, atol=0.06)
    (path,) = [node.get("d") for node in root.iter() if node.get("class") == "line"]
    assert path.count("M") == 2 and path.count("L") == 1  # the not-a-number breaks it
    assert {"0", "1", "2", "3", "y & z"} <= {node.text for node in root.iter()}


@pytest.mark.parametrize("values", [[0.25], [3.0, 3.0], [np.nan], [1e-4, 2e-4], [-5, 1e6]])
def test_charts_of_few_or_far_values_are_well_formed(values):
    line = Line("a", np.arange(len(values)), values)
    svg = line_chart([line], x_label="x", y_label="y", y_range=None, legend=False, size=SMALL)
    assert "nan" not in svg and ElementTree.fromstring(svg).get("viewBox") == "0 0 210 170"


def test_a_matrix_is_darker_where_it_is_higher():
    svg = matrix_chart(np.array([[np.nan, 0.25], [1.0, np.nan]]), ["a", "b & c"])
    cells = [node for node in ElementTree.fromstring(svg).iter() if node.get("fill-opacity")]
    assert [cell.get("fill-opacity") for cell in cells] == ["0.25", "1.00"]
    assert cells[0][0].text == "a shown, b & c predicted: 0.25"


def test_every_cell_of_a_table_names_its_column():
    found = table(["class", "AP <"], [["a&b", 0.12345], ["c", None]])
    assert '<td data-label="AP &lt;">0.123</td>' in found
    assert '<td data-label="class">a&amp;b</td>' in found and "–" in found
