"""`serve`: the viewer's server, from a run folder to an address in the browser."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from trackweave.errors import InputError, SettingError, wording
from trackweave.frames.source import FrameSource
from trackweave.frames.video import VideoFile
from trackweave.view.app import Guard, ViewedRun, ViewerApp, make_app
from trackweave.view.differences import open_truth
from trackweave.view.mask_answers import open_answers
from trackweave.view.opened_run import OpenedRun, open_pictures
from trackweave.view.pictures import DISK_BYTES, Opener, PictureStore

PORT = 8710
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
LEAST_TOKEN = 16
GRACE_SECONDS = 1


class Server(uvicorn.Server):
    """Leaves no connection open: those that outlast the grace are broken off."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends all connections."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)  # the loop closes them


@dataclass(frozen=True)
class Viewer:
    """A server that is ready to run.

    Attributes:
        address: of the page, with its token.
        server: runs until it is asked to end.
        listener: the socket that it listens on.
    """

    address: str
    server: Server
    listener: socket.socket

    def run(self) -> None:
        """Answers requests until the process is interrupted, or `server.should_exit` is set."""
        self.server.run([self.listener])


@contextmanager
def open_viewer(
    runs: Sequence[str | Path],
    *,
    frames: str | Path | None = None,
    truth: str | Path | None = None,
    host: str | None = None,
    port: int | None = None,
    token: str | None = None,
    disk_bytes: int = DISK_BYTES,
) -> Iterator[Viewer]:
    """Opens runs for the browser.

    Args:
        runs: one run folder, or two to see side by side.
        frames: a video or folder of images to show; None = what the runs recorded.
        truth: ground truth to compare the run with, whatever `evaluate` takes; it is seen beside it.
        host: address to listen on; None = this machine alone.
        port: None = 8710, or a free one where that is taken; 0 = a free one.
        token: first part of the address, of 16 characters or more; None = a random one, which only this machine may
            do with.
        disk_bytes: most that decoded pictures may take in the temporary folder.

    Raises:
        ArtifactError: no run, or a damaged one.
        InputError: frames of another video, or the port is taken.
        SettingError: no run or more than two, or two and a truth; a host without a token; a token that is too short.
    """
    if not 1 <= len(runs) <= 2:
        raise SettingError(f"one run is shown, or two side by side, not {len(runs)}")
    if truth is not None and len(runs) > 1:
        raise SettingError("a run is compared with another one or with a truth, not with both")
    _check_access(host, token)
    secret = token if token is not None else secrets.token_urlsafe(18)
    with ExitStack() as stack:
        viewed = [stack.enter_context(_viewed(run, frames, disk_bytes)) for run in runs]
        opened = viewed[0].opened
        assert isinstance(opened, OpenedRun)
        if truth is not None:
            viewed.append(ViewedRun(open_truth(truth, opened), viewed[0].store))
        answers = stack.enter_context(open_answers(opened))
        listener = stack.enter_context(_listening(host, port))
        name, number = listener.getsockname()[:2]
        names = {*LOOPBACK, socket.gethostname()} if host in EVERYWHERE else {*LOOPBACK, host or ""}
        guard = Guard(make_app(ViewerApp(viewed, answers)), secret, names, number, any_address=host in EVERYWHERE)
        config = uvicorn.Config(
            guard, log_level="critical", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS, ws="none",
        )  # fmt: skip
        shown = socket.gethostname() if host in EVERYWHERE else f"[{name}]" if ":" in name else name
        yield Viewer(f"http://{shown}:{number}/{secret}/", Server(config), listener)


def _check_access(host: str | None, token: str | None) -> None:
    if host is not None and host not in LOOPBACK and token is None:
        raise SettingError(
            f"{host}: others could open the page: give {wording('token=', '--token')} "
            f"of {LEAST_TOKEN} characters or more, which the address then begins with"
        )
    if token is not None and (
        len(token) < LEAST_TOKEN or not all(c.isascii() and (c.isalnum() or c in "-_") for c in token)
    ):
        raise SettingError(f"a token has {LEAST_TOKEN} characters or more: letters, digits, - and _")


@contextmanager
def _viewed(run: str | Path, frames: str | Path | None, disk_bytes: int) -> Iterator[ViewedRun]:
    with OpenedRun(run, frames=frames) as opened:
        source = opened.pictures.source
        if source is None:
            yield ViewedRun(opened, None)
            return
        store = PictureStore(source, _opener(source), disk_bytes=disk_bytes)
        store.start()
        try:
            yield ViewedRun(opened, store)
        finally:
            store.close()


def _opener(source: FrameSource) -> Opener | None:
    """Opens the frames once more, where they lie in one file."""
    if isinstance(source, VideoFile):
        return partial(source.again, cache_bytes=0)  # each frame is read once, and kept as a JPEG
    return partial(_reopened, source.path) if source.path is not None and source.path.is_file() else None


def _reopened(path: Path) -> FrameSource:
    source, _ = open_pictures(path)
    if source is None:
        raise InputError(f"{path}: has no pictures")
    return source


@contextmanager
def _listening(host: str | None, port: int | None) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        InputError: the address cannot be listened on.
    """
    where = host or LOOPBACK[0]
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            _bind(listener, where, port)
        except OSError as error:
            raise InputError(
                f"{where}:{PORT if port is None else port} cannot be listened on ({error.strerror or error}): "
                f"{wording('port=0', '--port 0')} takes a free port"
            ) from None
        listener.listen(64)
        yield listener


def _bind(listener: socket.socket, host: str, port: int | None) -> None:
    try:
        listener.bind((host, PORT if port is None else port))
    except OSError:
        if port is not None:
            raise
        listener.bind((host, 0))


def serve(viewer: Viewer, ready: Callable[[str], None]) -> None:
    """Says the address, and answers until Ctrl-C, which is how a page is closed and no failure."""
    ready(viewer.address)
    try:
        viewer.run()
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # SIGTERM, SIGHUP
            raise
