"""The page of `serve run`: what it asks of the server, and the page itself in a browser."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tfclip.evaluation.search.index import open_index
from tfclip.search import main as search
from tfclip.serve_index import export_of
from tfclip.serving.server.startup import find_versions
from tfclip.serving.warmup import drawn_jpeg

CLASS_NAMES = ("red circle", "blue square", "green star")
PAGE = Path(__file__).parents[2] / "tfclip" / "serving" / "server" / "page"
SCREENSHOTS = os.environ.get("TFCLIP_SCREENSHOTS")


@pytest.fixture(scope="module")
def measured_run(tiny_run, tmp_path_factory):
    """The tiny run with a measurement, as `tfclip.evaluate` keeps it, and thresholds in reach."""
    run = tmp_path_factory.mktemp("runs") / "measured"
    shutil.copytree(tiny_run, run)
    thresholds = json.loads((run / "thresholds.json").read_text())
    thresholds["per_class"] = dict(zip(CLASS_NAMES, (-0.2, 0.9, 0.0), strict=True))
    (run / "thresholds.json").write_text(json.dumps(thresholds))
    rng = np.random.default_rng(0)
    present = rng.random((80, 3)) < 0.4
    (run / "metrics").mkdir()
    np.savez(
        run / "metrics" / "voc_scores.npz",
        class_names=CLASS_NAMES,
        calibration_scores=rng.normal(0, 0.2, (80, 3)) + 0.3 * present,
        calibration_present=present,
        calibration_difficult=np.zeros((80, 3), bool),
    )
    return run


@pytest.fixture(scope="module")
def index(measured_run, flickr8k_records):
    """A search index over drawn shapes."""
    path = measured_run / "search" / flickr8k_records.name
    if search(["index", str(measured_run), str(flickr8k_records)]):
        raise RuntimeError("no index")
    return path


@pytest.fixture(scope="module")
def measured_export(index):
    """What `search serve` exports."""
    return export_of(open_index(index))


@pytest.fixture(scope="module")
def server(measured_export, index, start_server):
    with start_server(measured_export, index=index) as running:
        yield running


def test_an_index_is_served_with_the_export_of_its_run(measured_export, measured_run, index):
    assert measured_export == measured_run / "exported"
    assert export_of(open_index(index)) == measured_export
    assert list(find_versions(measured_export)) == [1]


def test_the_page_and_its_files_are_served_and_nothing_else(server):
    page = requests.get(server.rest + "/", timeout=5)
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy
    named = re.findall(r'(?:src|href)="(page/static/[^"]+)"', page.text)
    assert len(named) == 3
    modules = [f"page/static/{path.name}" for path in PAGE.glob("*.js")]
    for name in {*named, *modules}:
        assert requests.get(f"{server.rest}/{name}", timeout=5).status_code == 200
    for path in (
        "../options.py",
        "..%2foptions.py",
        "%2e%2e/run.py",
        "nope.js",
        "",
        "index.html%00",
    ):
        answer = requests.get(f"{server.rest}/page/static/{path}", timeout=5)
        assert answer.status_code in (404, 405), path


def test_no_file_of_the_page_names_another_machine():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://[a-z0-9]", text), path


def test_the_description_is_that_of_the_export(server):
    told = requests.get(server.rest + "/page/model", timeout=5).json()
    assert told["labels"] == list(CLASS_NAMES) and told["thresholds"] == [-0.2, 0.9, 0.0]
    assert told["operating_points"]["pictures"] == 80
    assert told["grpc_port"] == int(server.grpc.rpartition(":")[2])
    assert "similarity" in told["signatures"]


def test_search_finds_a_picture_by_itself(server, index):
    row = 5
    picture = requests.get(f"{server.rest}/page/pictures/{row}", timeout=5)
    assert picture.headers["Content-Type"] == "image/jpeg"
    Image.open(io.BytesIO(picture.content)).load()
    body = {"picture": {"b64": base64.b64encode(picture.content).decode()}, "top": 3}
    hits = requests.post(server.rest + "/page/search", json=body, timeout=20).json()["hits"]
    assert len(hits) == 3
    found = [hit for hit in hits if hit["row"] == row]
    # Equal pictures tie.
    assert found or hits[0]["cosine"] == 1.0
    assert hits[0]["cosine"] > 0.999 and hits[0]["captions"]
    texts = requests.post(server.rest + "/page/search", json={"text": "a red circle"}, timeout=20)
    assert len(texts.json()["hits"]) == 12


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "one of"),
        ({"text": "a", "picture": {"b64": ""}}, 400, "one of"),
        ({"text": " "}, 400, "must hold words"),
        ({"text": 7}, 400, "must hold words"),
        ({"text": "a", "top": 0}, 400, "top must be 1 to 48"),
        ({"text": "a", "top": True}, 400, "top must be 1 to 48"),
        ({"picture": {"b64": "bm8="}}, 400, "does not decode"),
        ({"picture": 7}, 400, "Type: Number"),
    ],
)
def test_bad_searches_are_refused(server, body, status, said):
    answer = requests.post(server.rest + "/page/search", json=body, timeout=20)
    assert answer.status_code == status and said in answer.json()["error"]
    assert requests.get(server.rest + "/page/pictures/999999", timeout=5).status_code == 404
    assert requests.get(server.rest + "/page/pictures/x", timeout=5).status_code in (400, 404)


def test_an_index_of_another_model_is_refused(
    index, flickr8k_records, tiny_model, tmp_path, start_server
):
    from tfclip.serving.saved_model import write_saved_model

    other = write_saved_model(tiny_model, tmp_path / "other").parent
    changed = tmp_path / "changed"
    shutil.copytree(index, changed)
    (embeddings,) = changed.glob("embeddings-*.npy")
    np.save(embeddings, np.load(embeddings)[:, ::-1].copy())
    with start_server(other, index=changed) as running:
        body = {"text": "a red circle"}
        answer = requests.post(running.rest + "/page/search", json=body, timeout=20)
        assert answer.status_code == 400 and "made with another model" in answer.json()["error"]


def test_without_an_index_there_is_no_search(running):
    assert requests.get(running.rest + "/page/model", timeout=5).json()["search"] is None
    answer = requests.post(running.rest + "/page/search", json={"text": "a"}, timeout=5)
    assert answer.status_code == 404 and "--index" in answer.json()["error"]


@pytest.fixture
def page(browser, server, request):
    """The page, opened; whatever it asks for elsewhere, or complains of, fails the test."""
    options = getattr(request, "param", {})
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on(
        "request",
        lambda r: r.url.startswith((server.rest, "blob:", "data:")) or wrong.append(r.url),
    )
    opened.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
    opened.on("pageerror", lambda e: wrong.append(str(e)))
    opened.goto(server.rest + "/")
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()
    assert not wrong


def files(count=2):
    return [
        {"name": f"disk {n}.jpg", "mimeType": "image/jpeg", "buffer": drawn_jpeg(300 + 40 * n, 220)}
        for n in range(count)
    ]


def wait_for_count(page, selector, count):
    """Playwright's own wait_for_function evaluates text, which the page's policy forbids."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_count(count)


def shoot(page, name):
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def check_accessible(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()


def fits(page):
    """Whether nothing reaches beyond the right edge; says what does."""
    wide = page.evaluate(
        """[...document.querySelectorAll("body *")]
          .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 0.5)
          .map((e) => e.tagName + "." + e.className + " " + e.getBoundingClientRect().right)"""
    )
    is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not is_wide, wide
    # Nor beyond its own panel.
    for inner, outer in (("table", ".picture"), ("select", ".picture"), ("pre", "section")):
        for found in page.locator(inner).all():
            right, edge = found.evaluate(
                "(e, outer) => [e, e.closest(outer)].map((x) => x.getBoundingClientRect().right)",
                outer,
            )
            assert right <= edge + 0.5, (inner, right, edge)
    return True


@pytest.mark.slow
def test_pictures_are_decided_as_the_server_decides(page, server):
    page.set_input_files(
        "#files", [*files(), {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"x"}]
    )
    page.wait_for_selector("#progress:has-text('Answered: 3 pictures')")
    body = {"inputs": [{"b64": base64.b64encode(files()[0]["buffer"]).decode()}]}
    told = requests.post(server.rest + "/v1/models/tfclip:predict", json=body, timeout=20).json()
    columns = [told["outputs"][name][0] for name in ("scores", "predicted")]
    expected = dict(zip(CLASS_NAMES, zip(*columns, strict=True), strict=True))
    first = page.locator(".picture").first
    for row in first.locator("tbody tr").all():
        label, score, _, _, _, decided = [cell.inner_text() for cell in row.locator("th, td").all()]
        assert float(score) == pytest.approx(expected[label][0], abs=1e-3)
        assert (decided == "yes") == expected[label][1]
    assert "no picture that decodes" in page.locator(".picture").last.inner_text()
    shoot(page, "answers")
    check_accessible(page)


@pytest.mark.slow
def test_the_sliders_tell_sensitivity_and_specificity_and_decide(page, server):
    page.set_input_files("#files", files(1))
    page.wait_for_selector("tbody tr")
    page.check("input[name=mode][value=one]")
    slider = page.locator("#sliders input")
    slider.focus()
    page.keyboard.press("Home")
    assert "sensitivity 100.0 %, specificity 0.0 %" in page.locator("#sliders output").inner_text()
    assert page.locator("tr.yes").count() == 3
    page.keyboard.press("End")
    assert "sensitivity 0.0 %, specificity 100.0 %" in page.locator("#sliders output").inner_text()
    assert page.locator("tr.yes").count() == 0
    points = requests.get(server.rest + "/page/model", timeout=5).json()["operating_points"]
    place = 20
    slider.evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }",
        points["thresholds"][place],
    )
    told = re.findall(r"([\d.]+) %", page.locator("#sliders output").inner_text())
    for text, name in zip(told, ("sensitivity", "specificity"), strict=True):
        assert float(text) == pytest.approx(100 * points["all"][name][place], abs=1.5)
    page.check("input[name=mode][value=each]")
    assert page.locator("#sliders input").count() == 3
    shoot(page, "sliders")
    check_accessible(page)
    page.check("input[name=mode][value=fitted]")
    assert page.locator("#sliders input").count() == 0


@pytest.mark.slow
def test_labels_are_typed_by_keyboard_alone(page, server):
    page.set_input_files("#files", files(1))
    page.wait_for_selector("tbody tr")
    page.locator("input[name=source][value=own]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    for text in ("a red circle", "a blue square", "<b>bold</b>"):
        page.keyboard.type(text)
        page.keyboard.press("Enter")
    wait_for_count(page, "tbody tr", 3)
    # Its own markup is text.
    assert page.locator("#chips li").last.inner_text().startswith("<b>bold</b>")
    # No thresholds, no decisions and no probabilities.
    heads = page.locator("thead th").all_inner_texts()
    assert [head.lower() for head in heads] == ["label", "score", "softmax", "best"]
    assert page.locator("tr.yes").count() == 1
    body = {
        "signature_name": "similarity",
        "inputs": {
            "image_bytes": [{"b64": base64.b64encode(files()[0]["buffer"]).decode()}],
            "text": ["a red circle", "a blue square", "<b>bold</b>"],
        },
    }
    told = requests.post(server.rest + "/v1/models/tfclip:predict", json=body, timeout=20).json()
    best = np.argmax(told["outputs"]["logits_per_image"][0])
    assert page.locator("tr.yes th").inner_text() == body["inputs"]["text"][best]
    page.get_by_role("button", name="Remove label a red circle").press("Enter")
    wait_for_count(page, "tbody tr", 2)
    page.get_by_role("button", name="Heatmap of disk 0.jpg").press("Enter")
    wait_for_count(page, "canvas", 1)
    options = page.locator("select option").all_inner_texts()
    assert sorted(options) == ["<b>bold</b>", "a blue square"]
    check_accessible(page)


@pytest.mark.slow
def test_the_code_to_copy_gives_the_same_answer(page, server, tmp_path):
    page.set_input_files("#files", files(1))
    page.wait_for_selector("tbody tr")
    (tmp_path / "disk 0.jpg").write_bytes(files(1)[0]["buffer"])
    score = float(page.locator("tbody tr td").first.inner_text())
    curl, rest, over_grpc = (block.inner_text() for block in page.locator("#snippets pre").all())
    done = subprocess.run(["bash", "-c", curl], cwd=tmp_path, capture_output=True, check=True)
    assert max(json.loads(done.stdout)["outputs"]["scores"][0]) == pytest.approx(
        score, abs=1e-3
    ) or (score in [round(s, 3) for s in json.loads(done.stdout)["outputs"]["scores"][0]])
    for program in (rest, over_grpc):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "red circle" in done.stdout


@pytest.mark.slow
def test_a_heatmap_is_shown_over_the_picture(page, server):
    page.set_input_files("#files", files(1))
    page.wait_for_selector("tbody tr")
    assert page.locator("canvas").count() == 0
    page.get_by_role("button", name="Heatmap of disk 0.jpg").press("Enter")
    page.wait_for_selector("canvas")
    chosen = page.get_by_label("Heatmap of", exact=True)
    assert chosen.evaluate("element => element === document.activeElement")
    assert chosen.input_value() == page.locator("tbody th").first.inner_text()
    chosen.select_option("green star")
    body = {"picture": {"b64": base64.b64encode(files()[0]["buffer"]).decode()}}
    told = requests.post(server.rest + "/page/heatmap", json=body, timeout=60).json()
    at = told["labels"].index("green star")
    x, y = (round(100 * share) for share in told["places"][at])
    drawn = page.get_by_role("img", name=f"Heatmap of green star: highest at {x} % from the left")
    values = np.frombuffer(base64.b64decode(told["maps"][at]), np.uint8)
    alpha = drawn.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, 24, 24).data].filter((_, i) => i % 4 === 3)"
    )
    np.testing.assert_allclose(alpha, 190 * (values / 255) ** 2, atol=1)
    picture, overlay = (page.locator(f".shown {n}").bounding_box() for n in ("img", "canvas"))
    assert picture == pytest.approx(overlay, abs=1)
    shoot(page, "heatmap")
    check_accessible(page)
    page.get_by_role("button", name="Heatmap of disk 0.jpg").click()
    wait_for_count(page, "canvas", 0)


@pytest.mark.slow
def test_the_search_box_shows_pictures(page):
    page.fill("#query", "a red circle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits li")
    assert page.locator("#hits li").count() == 12
    for image in page.locator("#hits img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.set_input_files("#files", files(1))
    page.get_by_role("button", name="Find pictures like disk 0.jpg").click()
    page.wait_for_selector("#progress:has-text('nearest to disk 0.jpg')")
    shoot(page, "search")
    check_accessible(page)


NARROW = {"color_scheme": "dark", "reduced_motion": "reduce"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [NARROW], indirect=True)
def test_it_fits_400_pixels_in_the_dark(page):
    page.set_viewport_size({"width": 400, "height": 800})
    page.set_input_files("#files", files(2))
    page.wait_for_selector("tbody tr")
    page.check("input[name=mode][value=each]")
    page.fill("#query", "a red circle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits li")
    assert fits(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(20, 23, 26)"
    shoot(page, "narrow-dark")
    check_accessible(page)
    page.set_viewport_size({"width": 320, "height": 800})
    assert fits(page)


@pytest.mark.slow
def test_pictures_are_dropped_and_pasted(page):
    data = base64.b64encode(drawn_jpeg()).decode()
    script = """([kind, target, data]) => {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], `${kind}.jpg`, {type: "image/jpeg"}));
      const options = {bubbles: true, cancelable: true};
      const event = kind === "paste"
        ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
        : new DragEvent("drop", {...options, dataTransfer: transfer});
      document.querySelector(target).dispatchEvent(event);
    }"""
    page.evaluate(script, ["paste", "body", data])
    page.wait_for_selector("h3:has-text('paste.jpg')")
    page.evaluate(script, ["drop", "#drop", data])
    page.wait_for_selector("h3:has-text('drop.jpg')")
    wait_for_count(page, ".picture tbody", 2)
    page.click("#clear")
    assert page.locator(".picture").count() == 0


@pytest.mark.slow
def test_the_token_is_asked_for(browser, measured_export, start_server):
    with start_server(measured_export, access={"token": "secret"}) as running:
        context = browser.new_context()
        page = context.new_page()
        page.goto(running.rest + "/")
        page.wait_for_selector("#token-form:not([hidden])")
        check_accessible(page)
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        page.set_input_files("#files", files(1))
        page.wait_for_selector("tbody tr")
        context.close()


@pytest.mark.slow
def test_a_page_of_another_site_gets_nothing(browser, server, tmp_path):
    """The other site is a plain server of files: same machine, another origin."""
    (tmp_path / "index.html").write_text("<!doctype html><title>other</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    other = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{other.server_port}/index.html")
        results = page.evaluate(
            """async (target) => {
              const predict = target + "/v1/models/tfclip:predict";
              const headers = {"Content-Type": "application/json"};
              const tries = {
                get: () => fetch(target + "/v1/models/tfclip"),
                plain: () => fetch(predict, {method: "POST", body: "{}"}),
                json: () => fetch(predict, {method: "POST", body: "{}", headers}),
              };
              const results = {};
              for (const [name, go] of Object.entries(tries)) {
                results[name] = await go().then((answer) => answer.status, () => "blocked");
              }
              return results;
            }""",
            server.rest,
        )
        assert results == {"get": "blocked", "plain": "blocked", "json": "blocked"}
        context.close()
    finally:
        other.shutdown()
        other.server_close()
    text = requests.get(server.rest + "/metrics", timeout=5).text
    assert 'tfclip_refused_connections_total{reason="origin"}' in text
