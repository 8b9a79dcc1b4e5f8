"""The server: who is let in, what it answers, and that nothing of a request reaches the file system."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.conftest import Serve
from trackweave.errors import InputError, SettingError
from trackweave.view.app import HEADERS, MOST_BODY, Guard, page_files
from trackweave.view.server import Viewer, open_viewer


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    viewer: Viewer, path: str = "", *, method: str = "GET", whole: str | None = None, body: Any = None, **headers: str
) -> Answer:
    """A request as a client makes it that need not be a browser; `whole` replaces the whole path."""
    address = urlsplit(viewer.address)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, address.path + path if whole is None else whole, body, named)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def test_the_page_and_its_data(serve: Serve, match_run: Path) -> None:
    with serve([match_run]) as viewer:
        page = ask(viewer)
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
        for name in re.findall(r'(?:src|href)="page/([^"]+)"', page.body.decode()):
            assert ask(viewer, f"page/{name}").status == 200, name
        info = json.loads(ask(viewer, "api/info").body)["runs"]
        assert [run["name"] for run in info] == ["run"]
        tracks = json.loads(ask(viewer, "api/0/tracks").body)
        assert len(tracks["id"]) == info[0]["tracks"]
        frame = ask(viewer, "api/0/frame/7.jpg")
        assert (frame.status, frame.headers["content-type"], frame.body[:2]) == (200, "image/jpeg", b"\xff\xd8")
        assert ask(viewer, "api/0/frame/60.jpg").status == 404
        one = json.loads(ask(viewer, f"api/0/track?id={tracks['id'][0]}").body)
        assert one["position"][0] == tracks["first"][0]
        assert ask(viewer, "api/0/track?id=999999").status == 404
        assert ask(viewer, "api/1/tracks").status == 404
        assert ask(viewer, f"api/0/crop/elsewhere.jpg?id={tracks['id'][0]}").status == 404
        assert json.loads(ask(viewer, "api/0/status").body)["frames"] == 60


def test_every_answer_has_the_headers_of_safety(serve: Serve, mask_run: Path) -> None:
    with serve([mask_run]) as viewer:
        for answer in (ask(viewer), ask(viewer, "api/info"), ask(viewer, "nothing"), ask(viewer, whole="/")):
            for name, value in HEADERS.items():
                assert answer.headers[name.lower()] == value
        assert "unsafe" not in HEADERS["Content-Security-Policy"]
        assert b"<script>" not in ask(viewer).body
        assert "server" not in ask(viewer).headers


@pytest.mark.parametrize(
    "path", ["/", "/api/info", "/wrong-token-of-some-length/", "/wrong-token-of-some-length/api/info", "//"]
)
def test_without_the_token_nothing_is_said(serve: Serve, mask_run: Path, path: str) -> None:
    with serve([mask_run]) as viewer:
        answer = ask(viewer, whole=path)
        assert answer.status == 403
        assert b"token" in answer.body
        assert b"run" not in answer.body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""]
)
def test_a_foreign_host_is_refused(serve: Serve, mask_run: Path, host: str) -> None:
    """DNS rebinding: the browser asks this server in another site's name."""
    with serve([mask_run]) as viewer:
        port = urlsplit(viewer.address).port
        assert ask(viewer, "api/info", Host=host.format(port=port)).status in (400, 421)
        assert ask(viewer, "api/info", Host=f"localhost:{port}").status == 200


def test_requests_of_other_pages_are_refused(serve: Serve, mask_run: Path) -> None:
    with serve([mask_run]) as viewer:
        own = viewer.address.rsplit("/", 2)[0]
        assert ask(viewer, "api/info", Origin=own).status == 200
        assert ask(viewer, "api/info", Origin="http://evil.example").status == 403
        assert ask(viewer, "api/info", Origin="null").status == 403
        assert ask(viewer, "api/info", Sec_Fetch_Site="cross-site").status == 403
        assert ask(viewer, "api/info", Sec_Fetch_Site="same-origin").status == 200
        assert ask(viewer, "", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


def test_a_large_body_is_refused(serve: Serve, mask_run: Path) -> None:
    with serve([mask_run]) as viewer:
        assert ask(viewer, "api/info", method="POST", body=b"x" * (MOST_BODY + 1)).status == 413
        assert ask(viewer, "api/info", method="POST", Content_Length="many").status in (400, 413)


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "/etc/passwd",
        "....//app.py",
        "page/../../app.py",
        "app.py",
        "__init__.py",
        "a\\..\\app.py",
    ],
)
def test_no_path_leads_out(serve: Serve, mask_run: Path, name: str) -> None:
    with serve([mask_run]) as viewer:
        for start in ("page/", "api/0/frame/", "api/0/crop/"):
            answer = ask(viewer, start + name)
            assert answer.status in (400, 404)
            assert b"import" not in answer.body
            assert b"root:" not in answer.body


def test_numbers_that_are_none_are_the_default(serve: Serve, mask_run: Path) -> None:
    with serve([mask_run]) as viewer:
        for query in (
            "first=x&count=2",
            "first=-9&count=999999999999999999999",
            "first=1e9",
            "count=-1",
            "first=%D9%A3",
        ):
            assert ask(viewer, f"api/0/objects?{query}").status in (200, 400)


def test_an_address_that_is_too_long(serve: Serve, mask_run: Path) -> None:
    """Python refuses to read a number of so many digits."""
    with serve([mask_run]) as viewer:
        assert ask(viewer, f"api/0/frame/{'9' * 5000}.jpg").status == 414
        assert ask(viewer, f"api/0/frame/{'9' * 500}.jpg").status == 404
        assert ask(viewer, "api/differences").status == 404


@given(st.text(max_size=60))
def test_only_own_names_are_own(host: str) -> None:
    guard = Guard(None, "t" * 20, {"127.0.0.1", "localhost"}, 80, any_address=False)  # type: ignore[arg-type]
    assert not guard._is_own(host) or host.lower() in {"127.0.0.1:80", "localhost:80"}


def test_numeric_addresses_are_own_where_all_are_listened_on() -> None:
    guard = Guard(None, "t" * 20, {"localhost"}, 80, any_address=True)  # type: ignore[arg-type]
    assert guard._is_own("192.168.1.7:80")
    assert guard._is_own("[fe80::1]:80")
    assert not guard._is_own("evil.example:80")


def test_others_need_a_token(mask_run: Path) -> None:
    with pytest.raises(SettingError, match="others could open the page"), open_viewer([mask_run], host="0.0.0.0"):
        pass
    for token in ("short", "x" * 15, "x" * 20 + "/", "x" * 20 + "é"):
        with pytest.raises(SettingError, match="a token has 16 characters"), open_viewer([mask_run], token=token):
            pass
    with open_viewer([mask_run], host="0.0.0.0", token="x" * 16, port=0) as viewer:
        assert viewer.address.endswith(f"/{'x' * 16}/")


def test_a_token_is_new_each_time(mask_run: Path) -> None:
    addresses = set()
    for _ in range(2):
        with open_viewer([mask_run], port=0) as viewer:
            addresses.add(viewer.address.split("/")[3])
    assert len(addresses) == 2
    assert all(len(token) >= 24 for token in addresses)


def test_a_port_that_is_taken(mask_run: Path) -> None:
    with open_viewer([mask_run], port=0) as viewer:
        port = urlsplit(viewer.address).port
        with pytest.raises(InputError, match=r"port=0 takes a free port"), open_viewer([mask_run], port=port):
            pass


def test_one_run_or_two(mask_run: Path) -> None:
    with pytest.raises(SettingError, match="one run is shown, or two"), open_viewer([]):
        pass


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address outside, no inline script or style, no markup out of data."""
    for name, (content, _) in page_files().items():
        text = content.decode()
        found = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, (name, found)
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, (name, word)
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
