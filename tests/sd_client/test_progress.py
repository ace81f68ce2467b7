"""What a WebUI tells of one job, in every shape that it may have."""

from __future__ import annotations

import pytest

from sd_client.client import WebUIClient
from sd_client.errors import WebUIConnectError
from sd_client.progress import Task
from tests.sd_client.servers import Answer, WebServer, as_json, closed_port


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (as_json({"active": True, "queued": False, "progress": 0.25}), Task(state="running", fraction=0.25)),
        (as_json({"active": True, "queued": False, "progress": None}), Task(state="running")),
        (as_json({"active": False, "queued": True, "textinfo": "In queue: 1/1"}), Task(state="waiting")),
        (as_json({"active": False, "queued": False, "completed": True}), Task(state="ended", fraction=1.0)),
        (as_json({"active": False, "queued": False, "completed": False}), Task(state="unknown")),
        (as_json({"detail": "Not Found"}, 404), None),
        (as_json({"error": "RuntimeError"}, 500), None),
        (as_json({}), None),
        (as_json([]), None),
        (as_json({"active": "yes"}), None),
        (Answer(body=b"<html>"), None),
    ],
)
def test_a_task(web_server: WebServer, answer: Answer, expected: Task | None) -> None:
    web_server.routes["POST /internal/progress"] = answer
    assert WebUIClient(web_server.url).task("ours") == expected
    assert web_server.received[0].json == {"id_task": "ours", "live_preview": False}


def test_a_webui_that_is_gone() -> None:
    with pytest.raises(WebUIConnectError):
        WebUIClient(f"http://127.0.0.1:{closed_port()}").task("ours")
