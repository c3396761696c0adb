"""The page at / and what it asks beside the REST paths: the model, search, heatmaps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from importlib import resources

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tfclip.serving import signatures as names
from tfclip.serving.server import json_tensors
from tfclip.serving.server.page_api.heatmap import PageHeatmap, read_texts
from tfclip.serving.server.page_api.search import PageSearch, read_top
from tfclip.serving.server.predict import PredictService
from tfclip.serving.server.refusals import Refused, invalid
from tfclip.serving.server.rest_api import read_body, refused
from tfclip.serving.server.versions import LoadedVersion

_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def page_files() -> dict[str, bytes]:
    """Return the files of the page by name, as they stand in the package."""
    folder = resources.files("tfclip.serving.server") / "page"
    return {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in _TYPES
    }


class PageApi:
    """The endpoints, as Starlette calls them.

    Args:
        service: answers.
        executor: runs what may wait.
        model: its name.
        search: the index of the search box.
    """

    def __init__(
        self,
        service: PredictService,
        executor: Executor,
        model: str,
        search: PageSearch | None = None,
    ):
        self._service = service
        self._executor = executor
        self._model = model
        self._search = search
        self._heatmap = PageHeatmap()
        self._files = page_files()
        self.grpc_port: int | None = None

    async def index(self, request: Request) -> Response:
        """The page."""
        return Response(self._files["index.html"], media_type="text/html")

    async def file(self, request: Request) -> Response:
        """One of the files that the page names."""
        name = request.path_params["name"]
        if name not in self._files:
            return JSONResponse({"error": "Not Found"}, 404)
        return Response(self._files[name], media_type=_TYPES[name.rpartition(".")[2]])

    async def model(self, request: Request) -> Response:
        """What the page has to know of the model."""
        version, limits = self._service.versions.current(), self._service.limits
        card = version.card
        return JSONResponse(
            {
                "model": self._model,
                "version": version.number,
                "signatures": sorted(version.signature_defs),
                "labels": card["labels"],
                "thresholds": card["thresholds"],
                "probabilities": card["probabilities"],
                "logit_scale": card["logit_scale"],
                "trained_on": card["trained_on"],
                "operating_points": version.operating_points,
                "grpc_port": self.grpc_port,
                "search": None if self._search is None else {"pictures": len(self._search)},
                "limits": {
                    "pictures": limits.max_pictures,
                    "texts": limits.max_texts,
                    "body_bytes": limits.max_body_bytes,
                },
            }
        )

    async def search(self, request: Request) -> Response:
        """The pictures of the index nearest to {"text": ...} or {"picture": {"b64": ...}}."""
        return await self._posted(request, self._hits)

    async def heatmap(self, request: Request) -> Response:
        """Where labels score in {"picture": {"b64": ...}, "texts": [...]}; see `PageHeatmap`."""
        return await self._posted(request, self._maps)

    async def _posted(self, request: Request, work: Callable[[bytes, float], dict]) -> Response:
        limits = self._service.limits
        try:
            body = await read_body(request, limits.max_body_bytes, limits.timeout)
            answer = await self._in_thread(work, body, time.monotonic() + limits.timeout)
        except Refused as refusal:
            return refused(refusal)
        except ClientDisconnect:
            return Response(status_code=499)
        return Response(json.dumps(answer), media_type="application/json")

    async def picture(self, request: Request) -> Response:
        """One picture of the index."""
        try:
            row = request.path_params["row"]
            content = await self._in_thread(self._opened().picture, row)
        except Refused as refusal:
            return refused(refusal)
        return Response(
            content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
        )

    async def _in_thread(self, work: Callable, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def _opened(self) -> PageSearch:
        if self._search is None:
            raise Refused("NOT_FOUND", "no index; start the server with --index NAME")
        return self._search

    def _hits(self, body: bytes, deadline: float) -> dict:
        search, content = self._opened(), json_tensors.read_body(body)
        top, text, picture = read_top(content), content.get("text"), content.get("picture")
        if (text is None) == (picture is None):
            raise invalid('give one of "text" and "picture"')
        if text is not None and not (isinstance(text, str) and text.strip()):
            raise invalid("text must hold words")
        with (
            self._service.admission.one(),
            self._service.versions.use(self._model, None) as version,
        ):

            def embed(signature: str, values: np.ndarray) -> np.ndarray:
                return self._embed(version, signature, values, deadline)

            try:
                search.check(version.number, embed)
            except ValueError as error:
                raise Refused("FAILED_PRECONDITION", str(error)) from None
            value = np.empty(1, object)
            if text is not None:
                value[0] = text.encode("utf-8", "replace")
                embedding = embed(names.ENCODE_TEXT, value)
            else:
                value[0] = json_tensors.read_bytes(picture)
                embedding = embed(names.ENCODE_IMAGE, value)
        return {"hits": search.hits(embedding[0], top)}

    def _maps(self, body: bytes, deadline: float) -> dict:
        content = json_tensors.read_body(body)
        if content.get("picture") is None:
            raise invalid('give a "picture"')
        limits = self._service.limits
        picture = json_tensors.read_bytes(content["picture"])
        texts = read_texts(content, limits.max_texts)
        content.clear()
        with (
            self._service.admission.one(),
            self._service.versions.use(self._model, None) as version,
        ):

            def ask(signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
                return self._ask(version, signature, inputs, deadline)

            return self._heatmap.maps(picture, texts, version.card, ask, limits, deadline)

    def _ask(
        self,
        version: LoadedVersion,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: float,
    ) -> Mapping[str, np.ndarray]:
        if signature not in version.signature_defs:
            raise Refused("FAILED_PRECONDITION", f"this export was made without {signature}")
        outputs = self._service.predict(version, signature, inputs, deadline).outputs
        if not outputs.get(names.VALID, np.array([True])).all():
            raise invalid("the picture does not decode")
        return outputs

    def _embed(
        self, version: LoadedVersion, signature: str, values: np.ndarray, deadline: float
    ) -> np.ndarray:
        (name,) = names.SIGNATURES[signature].inputs
        return self._ask(version, signature, {name: values}, deadline)[names.EMBEDDING]
