"""`PlanMetrics`: how far a plan is, as text that Prometheus reads, served on the loopback interface alone."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from trackweave.errors import SettingError, wording

if TYPE_CHECKING:
    from trackweave.plans.runner import PlanEvent

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HELP = {
    "trackweave_plan_due": ("gauge", "Items in variants that this call had to do when it began."),
    "trackweave_plan_running": ("gauge", "Items that are worked on now."),
    "trackweave_plan_items_total": ("counter", "Items in variants that this call ended, by result."),
    "trackweave_plan_lost_total": ("counter", "Items that lost their process or its memory and are tried again."),
    "trackweave_plan_frames_total": ("counter", "Frames of the items that were finished."),
    "trackweave_plan_stages_total": ("counter", "Stages that were computed, by stage and result."),
    "trackweave_plan_stage_seconds_total": ("counter", "Seconds of stages."),
    "trackweave_plan_stage_cpu_seconds_total": ("counter", "Processor seconds of stages."),
    "trackweave_plan_stage_peak_rss_bytes": ("gauge", "Largest resident set of a worker in a stage."),
    "trackweave_plan_stage_peak_gpu_bytes": ("gauge", "Most GPU memory that torch held in a stage."),
}
"""Metric → type and what it is."""


class PlanMetrics:
    """Listens to the events of `run` and serves what they add up to at `http://127.0.0.1:PORT/metrics`; a `with` block.

    Args:
        name: of the plan, a label of all metrics.
        port: where to serve; 0: any that is free.

    Raises:
        SettingError: another program has the port.
    """

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._values = defaultdict[tuple[str, tuple[tuple[str, str], ...]], float](float)
        self._running: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one question."""

            def do_GET(self) -> None:
                """The metrics; there is nothing else."""
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                body = metrics.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            remedy = wording("choose another port", "choose another --metrics")
            raise SettingError(f"port {port}: {getattr(error, 'strerror', None) or error}: {remedy}") from None
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where the metrics are."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/metrics"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __call__(self, event: PlanEvent) -> None:
        """Takes in one event."""
        values, of = event.values, (event.item, event.variant)
        with self._lock:
            if event.name == "planned":
                self._set("due", values["due"])
            elif event.name == "started":
                self._running.add(of)
            elif event.name == "stage":
                stage = values["stage"]
                self._add("stages_total", 1, stage=stage, result="failed" if "failure" in values else "finished")
                self._add("stage_seconds_total", values["seconds"], stage=stage)
                self._add("stage_cpu_seconds_total", values["cpu_seconds"], stage=stage)
                for kind in ("rss", "gpu"):
                    self._raise(f"stage_peak_{kind}_bytes", values[f"peak_{kind}_mb"], stage=stage)
            elif event.name in ("finished", "failed", "lost"):
                self._running.discard(of)
                if event.name == "lost":
                    self._add("lost_total", 1)
                else:
                    self._add("items_total", 1, result=event.name)
                    self._add("frames_total", values.get("frames") or 0)
            self._set("running", len(self._running))

    def text(self) -> str:
        """All metrics in Prometheus' text format."""
        with self._lock:
            return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, (kind, about) in HELP.items():
            samples = {labels: value for (metric, labels), value in self._values.items() if metric == name}
            if samples:
                yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
            for labels, value in samples.items():
                shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in (("plan", self._name), *labels))
                yield f"{name}{{{shown}}} {value:.10g}\n"

    def _key(self, name: str, labels: dict[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
        return f"trackweave_plan_{name}", tuple(labels.items())

    def _add(self, name: str, value: float, **labels: str) -> None:
        self._values[self._key(name, labels)] += value

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._values[self._key(name, labels)] = value

    def _raise(self, name: str, megabytes: float | None, **labels: str) -> None:
        if megabytes is not None:
            key = self._key(name, labels)
            self._values[key] = max(self._values[key], 1e6 * megabytes)


def _escaped(text: str) -> str:
    r"""A label's value.

    >>> print(_escaped('a "b" \\'))
    a \"b\" \\
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
