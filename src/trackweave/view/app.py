"""`ViewerApp`: the web application: which requests are taken, and what each answers.

Every address begins with a random token. A request is refused whose `Host` is not the server's own (DNS rebinding),
whose `Origin` is another page's, or whose body is too large. Nothing of a request becomes a path: files of the page
are read once, when the application is made.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trackweave.errors import RunFolderError, TrackweaveError
from trackweave.storage.files import parse_json
from trackweave.view.answers import BoxAnswers, OutdatedError
from trackweave.view.differences import MOST_DIFFERENCES, find_differences
from trackweave.view.opened_run import ViewedTracks
from trackweave.view.pictures import PictureStore, status
from trackweave.visualization.look import STYLESHEET, stylesheet

MOST_BODY = 1 << 18
"""Bytes of a request."""
MOST_PATH = 1000
"""Letters of an address: more are no number of ours, and some that Python refuses to read."""
MOST_OBJECT_FRAMES = 256
CROP_WIDTH = 160
SHARES = {"first": 0.0, "middle": 0.5, "last": 1.0}
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """The files of the page by name, with their types."""
    folder = files("trackweave.view") / "page"
    found = {STYLESHEET: (stylesheet().encode(), TYPES[".css"])}
    for file in folder.iterdir():
        kind = TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None:
            found[file.name] = file.read_bytes(), kind
    return found


def json_response(value: object) -> Response:
    """A value as JSON."""
    return Response(json.dumps(value, separators=(",", ":"), allow_nan=False), media_type="application/json")


class ViewedRun:
    """A run that is open, and its pictures."""

    def __init__(self, opened: ViewedTracks, store: PictureStore | None) -> None:
        self.opened, self.store = opened, store
        self._position_of = {place: position for position, place in enumerate(opened.pictures.places.tolist())}

    def picture(self, position: int, *, whole: bool, reader: str | None) -> Response:
        """The JPEG of a frame that a reader wishes for, None: ahead of it; empty where another one is wished for."""
        place = self._place(position)
        if self.store is None or place < 0:
            return _nothing()
        wished = (
            self.store.ahead(place, whole=whole) if reader is None else self.store.wished(place, reader, whole=whole)
        )
        return Response(None, 204) if wished is None else Response(wished, media_type="image/jpeg")

    def moving(self, position: int) -> Response:
        """A frame's JPEG for playing."""
        place = self._place(position)
        found = None if self.store is None or place < 0 else self.store.moving(place)
        return Response(None, 204) if found is None else Response(found, media_type="image/jpeg")

    def near(self, position: int) -> Response:
        """The JPEG of the nearest frame that is there at once, and which one it is."""
        place = self._place(position)
        found = None if self.store is None or place < 0 else self.store.near(place)
        shown = -1 if found is None else self._position_of.get(found[0], -1)
        if found is None or shown < 0:
            return Response(None, 204)
        return Response(found[1], media_type="image/jpeg", headers={"X-Position": str(shown)})

    def _place(self, position: int) -> int:
        return int(self.opened.pictures.places[position]) if 0 <= position < len(self.opened) else -1

    def crop(self, level: int, track_id: int, which: str, position: int) -> bytes | None:
        """The JPEG of a track's surroundings on its first, middle or last frame, or `at` a position.

        Of an `item`, `track_id` is what acts call it, and `position` its frame.

        None where it is not seen, or there is no picture; empty where it is not decoded yet.
        """
        if self.store is None:
            return None
        if which == "item":
            placed = self.opened.item_place(position, track_id)
            if placed is None:
                return None
            position, box = placed
        elif which in SHARES:
            found = self.opened.crop_place(level, track_id, SHARES[which])
            if found is None:
                return None
            position, box = found
        else:
            at = self.opened.box_at(level, track_id, position) if which == "at" else None
            if at is None:
                return None
            box = at
        place = int(self.opened.pictures.places[position])
        return None if place < 0 else self.store.crop(place, box, CROP_WIDTH) or b""


class ViewerApp:
    """What the page asks for.

    Args:
        runs: the runs that are shown, the first of them the one that is asked about.
        answers: what is said about it.
    """

    def __init__(self, runs: Sequence[ViewedRun], answers: BoxAnswers) -> None:
        self.runs, self.answers = runs, answers
        self._files = page_files()

    def routes(self) -> list[Route]:
        """Addresses below the token."""
        run = "/api/{run:int}"
        return [
            Route("/", self._page),
            Route("/page/{name:str}", self._file),
            Route("/api/info", self._info),
            Route("/api/answers", self._state, methods=["GET"]),
            Route("/api/answers", self._act, methods=["POST"]),
            Route("/api/events", self._events),
            Route("/api/differences", self._differences),
            Route(f"{run}/tracks", self._tracks),
            Route(f"{run}/objects", self._objects),
            Route(f"{run}/track", self._track),
            Route(f"{run}/frame/{{position:int}}.jpg", self._frame),
            Route(f"{run}/moving/{{position:int}}.jpg", self._moving),
            Route(f"{run}/near/{{position:int}}.jpg", self._near),
            Route(f"{run}/crop/{{which:str}}.jpg", self._crop),
            Route(f"{run}/status", self._status),
        ]

    async def _page(self, request: Request) -> Response:
        content, kind = self._files["index.html"]
        return Response(content, media_type=kind)

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        return _nothing() if found is None else Response(found[0], media_type=found[1])

    async def _info(self, request: Request) -> Response:
        return json_response({"runs": [run.opened.info() for run in self.runs]})

    async def _state(self, request: Request) -> Response:
        return json_response(await run_in_threadpool(self.answers.state))

    async def _act(self, request: Request) -> Response:
        """Takes an act; 200 says that it is on the disk."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("an act is JSON", 415)
        try:
            record: Any = parse_json(await request.body())
        except ClientDisconnect:  # or too much, see `_bounded`
            return PlainTextResponse(f"a request has at most {MOST_BODY} bytes", 413)
        except ValueError as error:
            return PlainTextResponse(f"an act is JSON: {error}", 400)
        try:
            return json_response(await run_in_threadpool(self.answers.act, record if isinstance(record, dict) else {}))
        except OutdatedError as error:
            return PlainTextResponse(str(error), 409)
        except RunFolderError as error:
            return PlainTextResponse(str(error), 507)
        except TrackweaveError as error:
            return PlainTextResponse(str(error), 422)

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self.answers.events(), media_type="text/event-stream")

    async def _differences(self, request: Request) -> Response:
        """What is different between the first run and what is seen beside it."""
        if len(self.runs) < 2:
            return _nothing()
        found = await run_in_threadpool(find_differences, self.runs[0].opened, self.runs[1].opened)
        counts = {kind: sum(one.kind == kind for one in found) for kind in ("switch", "miss", "false")}
        return json_response({"counts": counts, "listed": [one.to_json() for one in found[:MOST_DIFFERENCES]]})

    async def _tracks(self, request: Request) -> Response:
        return await self._answer(request, lambda run: json_response(run.opened.tracks_json()))

    async def _objects(self, request: Request) -> Response:
        first, count = _number(request, "first"), _number(request, "count", 1)
        with_masks = request.query_params.get("masks") == "1"
        count = min(count, MOST_OBJECT_FRAMES)
        return await self._answer(
            request, lambda run: json_response(run.opened.objects_json(first, count, with_masks=with_masks))
        )

    async def _track(self, request: Request) -> Response:
        level, track_id = _number(request, "level", -1), _number(request, "id")

        def answer(run: ViewedRun) -> Response:
            track = run.opened.track_json(level, track_id)
            return _nothing() if track is None else json_response(track)

        return await self._answer(request, answer)

    async def _frame(self, request: Request) -> Response:
        position = int(request.path_params["position"])
        whole, reader = request.query_params.get("whole") == "1", request.query_params.get("wish")
        return await self._answer(request, lambda run: run.picture(position, whole=whole, reader=reader))

    async def _moving(self, request: Request) -> Response:
        position = int(request.path_params["position"])
        return await self._answer(request, lambda run: run.moving(position))

    async def _near(self, request: Request) -> Response:
        position = int(request.path_params["position"])
        return await self._answer(request, lambda run: run.near(position))

    async def _crop(self, request: Request) -> Response:
        which, position = str(request.path_params["which"]), _number(request, "position", -1)
        level, track_id = _number(request, "level", -1), _number(request, "id")
        if which not in (*SHARES, "at", "item"):
            return _nothing()
        if which == "item":
            track_id, position = _number(request, "item", -1), _number(request, "frame", -1)
        return await self._answer(request, lambda run: _crop(run.crop(level, track_id, which, position)))

    async def _status(self, request: Request) -> Response:
        return await self._answer(request, lambda run: json_response(status(run.store, len(run.opened))))

    async def _answer(self, request: Request, answer: Callable[[ViewedRun], Response]) -> Response:
        """Runs a slow answer in a thread; an error of ours becomes a line of text."""
        number = int(request.path_params["run"])
        if number >= len(self.runs):
            return _nothing()
        try:
            return await run_in_threadpool(answer, self.runs[number])
        except TrackweaveError as error:
            return PlainTextResponse(str(error), 422)


def _nothing() -> Response:
    return PlainTextResponse("there is nothing here", 404)


def _crop(content: bytes | None) -> Response:
    """A page asks for many crops without knowing which there are: none is no failure, and may be there later."""
    if content:
        return Response(content, media_type="image/jpeg")
    return Response(None, 204, {} if content is None else {"Retry-After": "1"})


def _number(request: Request, name: str, default: int = 0) -> int:
    """A whole number of the query; the default where it is none."""
    text = request.query_params.get(name, "")
    is_number = len(text) < 18 and text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
    return int(text) if is_number else default


class Guard:
    """Lets in who knows the token, and speaks to this server by its own name.

    Args:
        app: what is behind it.
        token: first part of every address.
        names: hosts by which the server may be called, without the port.
        port: of the server.
        any_address: also by each of its numeric addresses, where it listens on all.
    """

    def __init__(self, app: ASGIApp, token: str, names: Iterable[str], port: int, *, any_address: bool = False) -> None:
        self._app, self._token, self._port, self._any_address = app, token, port, any_address
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # websockets: nothing here speaks them, and the server closes them
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        answer = _with_headers(send)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        inner = dict(scope)
        inner["path"] = scope["path"][len(self._token) + 1 :]
        inner["root_path"] = ""
        await self._app(inner, _bounded(receive), answer)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """Why a request is not let in."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return PlainTextResponse(f"this server is not {host[:80]!r}", 421)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("requests of other pages are refused", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            is_visit = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
            if not is_visit:  # a link on another page may open this one, and no more
                return PlainTextResponse("requests of other pages are refused", 403)
        token, slash, _ = str(scope["path"]).removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(unquote(token).encode(), self._token.encode()):
            return PlainTextResponse("the address lacks its token: `trackweave view` printed the whole one", 403)
        if len(scope["path"]) > MOST_PATH:
            return PlainTextResponse("there is no address as long as that", 414)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:18]) > MOST_BODY:
            return PlainTextResponse(f"a request has at most {MOST_BODY} bytes", 413)
        return None

    def _is_own(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if port != str(self._port):
            return False
        name = name[1:-1] if name.startswith("[") and name.endswith("]") else name.lower()
        if name in self._names:
            return True
        if not self._any_address:
            return False
        try:  # a numeric address was not looked up anywhere, so nobody can have bent it
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _with_headers(send: Send) -> Send:
    extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return answer


def _bounded(receive: Receive) -> Receive:
    """Breaks off a body that has more bytes than it may have, whatever its header said."""
    seen = 0

    async def receive_bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > MOST_BODY else message

    return receive_bounded


def make_app(app: ViewerApp) -> Starlette:
    """The application without its guard."""
    return Starlette(routes=app.routes())
