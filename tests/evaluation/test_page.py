"""The report page: one file, every figure in it, nothing fetched."""

import json
import re

from tfclip.evaluation.page import write_page


def test_page_holds_tables_and_plots_and_fetches_nothing(tmp_path):
    sides = {"r1": 0.125, "r5": 0.5, "r10": 0.75, "median_rank": 4.0}
    figures = {"image_to_text": sides, "text_to_image": sides, "images": 8, "captions": 40}
    figures |= {"records": "records/flickr8k", "split": "test"}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "plots").mkdir()
    (tmp_path / "metrics" / "retrieval.json").write_text(json.dumps(figures))
    (tmp_path / "plots" / "retrieval_ranks.png").write_bytes(b"\x89PNG")
    (tmp_path / "config.json").write_text('{"recipe": "<script>"}')
    page = write_page(tmp_path).read_text()
    assert "0.125" in page and "0.750" in page
    assert "data:image/png;base64,iVBORw==" in page
    assert "<script>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
