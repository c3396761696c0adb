"""Heatmaps of the page: the windows of an export, against those of the run and planted scores."""

import base64
import io
import socket
import time

import numpy as np
import pytest
import requests
import tensorflow as tf
from PIL import Image

from tfclip.serving import signatures as names
from tfclip.serving.prediction.heatmap import GRID, score_maps, window_boxes
from tfclip.serving.prediction.windows import cut_windows
from tfclip.serving.server.options import Limits
from tfclip.serving.server.page_api.heatmap import PageHeatmap
from tfclip.serving.warmup import drawn_jpeg

CARD = {"labels": ["red", "blue"], "config": {"image_size": 32}}


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def two_halves(size=(200, 100)):
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (size[0] * 3 // 4, 0, size[0], size[1]))
    return picture


def redness(signature, inputs):
    """A model of one thought: how red a picture is, and how blue."""
    assert signature == names.CLASSIFY
    pixels = [
        np.asarray(Image.open(io.BytesIO(content))).reshape(-1, 3).mean(0)
        for content in inputs[names.IMAGE_BYTES]
    ]
    return {names.SCORES: np.array(pixels)[:, [0, 2]] / 255}


def maps_of(content, ask=redness, texts=None, **limits):
    end = time.monotonic() + 20
    answer = PageHeatmap().maps(content, texts, CARD, ask, Limits(**limits), end)
    decoded = [
        np.frombuffer(base64.b64decode(one), np.uint8).reshape(GRID, GRID) for one in answer["maps"]
    ]
    return answer, decoded


def test_the_highest_place_is_where_the_colour_is():
    answer, (red, blue) = maps_of(encoded(two_halves()))
    assert answer["labels"] == ["red", "blue"] and answer["grid"] == GRID
    assert answer["places"][0][0] > 0.7 and answer["places"][1][0] < 0.7
    for one in (red, blue):
        assert one.min() == 0 and one.max() == 255
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert answer["places"][0] == [round((column + 0.5) / GRID, 4), round((row + 0.5) / GRID, 4)]


def test_a_turned_picture_is_cut_as_it_is_seen():
    """EXIF 6: the right side of the file is the lower side of what is seen."""
    turned = Image.Exif()
    turned[0x0112] = 6
    content = encoded(two_halves(), "JPEG", exif=turned)
    answer, _ = maps_of(content)
    x, y = answer["places"][0]
    assert y > 0.7 and abs(x - 0.5) < 0.2


def test_no_call_is_larger_than_a_request_may_be():
    sizes = []

    def ask(signature, inputs):
        sizes.append(len(inputs[names.IMAGE_BYTES]))
        return redness(signature, inputs)

    maps_of(encoded(two_halves()), ask, max_pictures=3)
    assert sum(sizes) == len(window_boxes()) and max(sizes) == 3


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (1, 1), (3000, 2000)])
def test_windows_of_any_shape_are_small(size):
    windows = cut_windows(encoded(Image.new("RGB", size)), 160)
    assert len(windows) == len(window_boxes())
    assert sum(map(len, windows)) < 60_000_000
    for content in windows:
        Image.open(io.BytesIO(content)).load()


@pytest.fixture(scope="module")
def running(exported, start_server):
    with start_server(exported) as server:
        yield server


def ask_server(server, content, **more):
    body = {"picture": {"b64": base64.b64encode(content).decode()}, **more}
    return requests.post(server.rest + "/page/heatmap", json=body, timeout=60)


def test_the_maps_are_those_of_the_signature(running, served):
    content = drawn_jpeg(90, 60)
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    windows = []
    for y0, x0, y1, x1 in window_boxes().tolist():
        box = int(x0 * 90), int(y0 * 60), round(x1 * 90), round(y1 * 60)
        windows.append(encoded(picture.crop(box)))
    scores = served["classify"](image_bytes=tf.constant(windows))["scores"].numpy()
    texts = ["a red circle", "ein Hund, süß"]
    logits = served["similarity"](image_bytes=tf.constant(windows), text=tf.constant(texts))
    for more, expected in (({}, scores), ({"texts": texts}, logits["logits_per_image"].numpy())):
        told = ask_server(running, content, **more)
        assert told.status_code == 200, told.text
        for one, wanted in zip(told.json()["maps"], score_maps(expected), strict=True):
            got = np.frombuffer(base64.b64decode(one), np.uint8).reshape(GRID, GRID) / 255
            low, high = wanted.min(), wanted.max()
            np.testing.assert_allclose(got, (wanted - low) / (high - low), atol=0.02)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, 'give a "picture"'),
        ({"picture": {"b64": "bm8="}}, "does not decode"),
        ({"picture": {"b64": base64.b64encode(drawn_jpeg()[:40]).decode()}}, "does not decode"),
        ({"picture": 7}, "Type: Number"),
        ({"picture": {"b64": ""}, "texts": []}, "texts must be a list of 1 to 1000 strings"),
        ({"picture": {"b64": ""}, "texts": ["a", 7]}, "texts must be a list of 1 to 1000 strings"),
        ({"picture": {"b64": ""}, "texts": ["a"] * 1001}, "texts must be"),
    ],
)
def test_bad_requests_are_refused(running, body, said):
    answer = requests.post(running.rest + "/page/heatmap", json=body, timeout=20)
    assert answer.status_code == 400 and said in answer.json()["error"]


@pytest.mark.parametrize("path", ["/page/heatmap", "/page/search"])
def test_a_client_that_leaves_is_no_error(running, path, caplog):
    host, port = running.rest.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        time.sleep(0.2)
    time.sleep(0.3)
    assert requests.get(running.rest + "/healthz", timeout=10).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


def test_an_export_without_labels_or_texts_says_so(exported_without_labels, start_server):
    with start_server(exported_without_labels) as server:
        answer = ask_server(server, drawn_jpeg())
        assert answer.status_code == 400
        assert "made without classify" in answer.json()["error"]
        assert ask_server(server, drawn_jpeg(), texts=["a dog"]).status_code == 200
