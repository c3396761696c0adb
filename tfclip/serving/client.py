"""Asks a model in TensorFlow Serving over its REST interface. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tfclip.serving import signatures as names
from tfclip.serving.rest import decode_answer, encode_request, model_url

Picture = str | Path | bytes

# A full queue, a server that is starting, a proxy without one.
_PASSING = (429, 502, 503, 504)


class Client:
    """Pictures and texts to answers, by an export that TensorFlow Serving runs.

    Requests that fail in passing (no connection, a full queue) are sent again, after 0.2, 0.4, 0.8
    seconds and so on. Many inputs are sent in several requests.

    Args:
        server: where the REST interface is; TensorFlow Serving's own default is port 8501.
        unbatched: a server that does not merge requests, for `similarity`; `server` by default.
        model: its name in `models.config`.
        version: one version; the highest by default.
        timeout: seconds to wait for one answer.
        retries: how often a request is sent again.
    """

    def __init__(
        self,
        server: str = "http://localhost:8500",
        *,
        unbatched: str | None = None,
        model: str = names.MODEL_NAME,
        version: int | None = None,
        timeout: float = 60.0,
        retries: int = 5,
    ):
        for url in (server, unbatched or server):
            if not url.startswith(("http://", "https://")):
                raise ValueError(
                    f"the server must be a URL like http://localhost:8501. Received: {url}"
                )
        self.model = model
        self._url = model_url(server, model, version)
        self._unbatched_url = model_url(unbatched or server, model, version)
        self._timeout = timeout
        again = Retry(
            total=retries,
            backoff_factor=0.2,
            status_forcelist=_PASSING,
            allowed_methods=None,  # To predict changes nothing: a POST may be repeated.
            raise_on_status=False,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again))

    def status(self) -> dict[int, str]:
        """The state of each version that the server knows: {1: "AVAILABLE"}.

        Raises:
            OSError, ValueError: see `classify`.
        """
        states = self._json("GET", self._url, None)["model_version_status"]
        return {int(state["version"]): state["state"] for state in states}

    def classify(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Score the labels of the export for N pictures, paths or the bytes of files.

        Returns:
            `labels` (N,C) str, `scores` (N,C) float32 cosine, `probabilities` (N,C) float32,
            `predicted` (N,C) bool, `valid` (N,) bool: false, and zeros beside it, where a picture
            does not decode.

        Raises:
            OSError: a picture cannot be read, or the server cannot be reached or fails.
            ValueError: there is no picture, or the server refuses the request.
        """
        return self._in_parts(names.CLASSIFY, {names.IMAGE_BYTES: _contents(pictures)})

    def encode_image(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """Embed N pictures, paths or the bytes of files.

        Returns:
            `embedding` (N,D) float32 of unit norm, `valid` (N,) bool.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._in_parts(names.ENCODE_IMAGE, {names.IMAGE_BYTES: _contents(pictures)})

    def encode_text(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Embed M texts.

        Returns:
            `embedding` (M,D) float32 of unit norm.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._in_parts(names.ENCODE_TEXT, {names.TEXT: _texts(texts)})

    def similarity(
        self, pictures: Sequence[Picture], texts: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Compare N pictures with M texts.

        A server that merges requests cannot answer this: it joins the texts of strangers. It is
        never asked with as many texts as pictures, which is the one case that it takes for its own.

        Returns:
            `logits_per_image` (N,M) float32, the learnt scale times cosine; `valid` (N,) bool.

        Raises:
            OSError, ValueError: see `classify`.
        """
        contents, texts = _contents(pictures), _texts(texts)
        answers = []
        for part in _parts(contents):
            asked = [*texts, texts[-1]] if len(texts) == len(part) else texts
            inputs = {names.IMAGE_BYTES: part, names.TEXT: asked}
            answer = self._ask(self._unbatched_url, names.SIMILARITY, inputs)
            logits = answer[names.LOGITS_PER_IMAGE]
            if logits.shape != (len(part), len(asked)):
                raise ValueError(
                    f"{self._unbatched_url} answered similarity with shape {logits.shape} to "
                    f"{len(part)} pictures and {len(asked)} texts"
                )
            answers.append({**answer, names.LOGITS_PER_IMAGE: logits[:, : len(texts)]})
        return _joined(answers)

    def _in_parts(self, row: str, inputs: dict[str, list]) -> dict[str, np.ndarray]:
        """Ask for as many at once as the server merges."""
        ((name, values),) = inputs.items()
        return _joined([self._ask(self._url, row, {name: part}) for part in _parts(values)])

    def _ask(self, url: str, row: str, inputs: dict[str, list]) -> dict[str, np.ndarray]:
        body = self._json("POST", f"{url}:predict", encode_request(row, inputs))
        try:
            answer = decode_answer(row, body)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{url} answered {row} with something else: {error}") from None
        count = len(next(iter(inputs.values())))
        if any(len(value) != count for value in answer.values()):
            raise ValueError(f"{url} answered {row} of {count} with another number of rows")
        return answer

    def _json(self, method: str, url: str, body: dict | None) -> dict:
        try:
            response = self._session.request(method, url, json=body, timeout=self._timeout)
        except requests.Timeout as error:
            raise TimeoutError(
                f"no answer from {url} in {self._timeout:g} s ({type(error).__name__})"
            ) from None
        except requests.RequestException as error:
            reason = getattr(error.args[0], "reason", error) if error.args else error
            raise ConnectionError(
                f"no answer from {url}: {reason}. Is TensorFlow Serving there, and is this the "
                "port of its REST interface, 8501 by default? Start one with deploy/compose.yaml"
            ) from None
        try:
            answer = response.json()
        except ValueError:
            answer = {"error": response.text[:200] or "an empty body"}
        if response.ok and "error" not in answer:
            return answer
        said = " ".join(str(answer.get("error", response.reason)).split())[:500]
        if response.status_code >= 500:
            raise ConnectionError(f"{url} failed with status {response.status_code}: {said}")
        hint = (
            f". Is {self.model} the name in models.config?" if response.status_code == 404 else ""
        )
        raise ValueError(f"{url} refused with status {response.status_code}: {said}{hint}")


def _contents(pictures: Sequence[Picture]) -> list[bytes]:
    if isinstance(pictures, Picture):
        raise ValueError("pictures must be a list of paths or bytes. Received: one alone")
    if not pictures:
        raise ValueError("no picture was given; give a list of paths or bytes")
    return [p if isinstance(p, bytes) else Path(p).read_bytes() for p in pictures]


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not texts:
        raise ValueError(f"texts must be a list of one or more. Received: {texts!r}")
    return list(texts)


def _parts(values: list) -> list[list]:
    most = max(names.ALLOWED_BATCH_SIZES)
    return [values[start : start + most] for start in range(0, len(values), most)]


def _joined(answers: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
