"""The report page: one file, every figure in it, nothing fetched, nothing unescaped."""

import json
import re

import numpy as np

from tfclip.evaluation.report.examples import (
    RETRIEVAL_EXAMPLES,
    jpeg_of,
    read_examples,
    write_examples,
)
from tfclip.evaluation.report.html_page import write_page
from tfclip.evaluation.report.html_render import _environment


def test_page_holds_figures_curves_and_examples_and_fetches_nothing(tmp_path):
    sides = {"r1": 0.125, "r5": 0.5, "r10": 0.75, "median_rank": 4.0}
    figures = {"image_to_text": sides, "text_to_image": sides, "images": 8, "captions": 40}
    figures |= {"records": "records/flickr8k", "split": "test", "version": "1.2.3"}
    figures |= {"date": "2026-11-28T06:00:00+00:00", "command": "tfclip evaluate run <voc>"}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "retrieval.json").write_text(json.dumps(figures))
    (tmp_path / "config.json").write_text('{"recipe": "<script>"}')
    (tmp_path / "log.csv").write_text("epoch,loss,val_loss,logit_scale\n0,3.5,,20\n1,3.1,3.3,nan\n")
    jpeg = jpeg_of(np.full((32, 32, 3), 200, np.uint8))
    query = {"query": 'two <dogs> & "cats"', "key": "a/1", "score": 0.5, "right": True}
    missed = {**query, "key": "a/2", "rank": 57}
    examples = [{**example, "jpeg": jpeg} for example in (query, missed)]
    write_examples(tmp_path / RETRIEVAL_EXAMPLES, examples)
    assert read_examples(tmp_path / RETRIEVAL_EXAMPLES)[0]["jpeg"] == jpeg
    page = write_page(tmp_path).read_text()
    assert "0.125" in page and "0.750" in page
    assert "Measured 2026-11-28 06:00 UTC with tfclip 1.2.3" in page
    assert "<code>tfclip evaluate run &lt;voc&gt;</code>" in page
    assert "75 find their picture among the first 10 of 8 pictures" in page
    assert "✓ its picture" in page and "○ missed: its picture, rank 57" in page
    assert 'id="term-r1"' in page and 'href="#term-r1"' in page
    assert "data:image/jpeg;base64,/9j/" in page
    assert "two &lt;dogs&gt; &amp; &#34;cats&#34;" in page
    assert "&#34;recipe&#34;: &#34;&lt;script&gt;" in page
    assert "val_loss" in page and page.count("<svg") == 2
    assert ">1</text>" in page and ">2</text>" in page and ">1.2</text>" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "://" not in page


def test_every_cell_of_a_table_names_its_column():
    table = _environment().get_template("macros.html").module.table
    text = str(table(["class", "AP <"], [["a&b", 0.12345], ["c", None]]))
    assert '<td data-label="AP &lt;">0.123</td>' in text
    assert '<th scope="row">a&amp;b</th>' in text and "–" in text
