"""Two WebUIs with files of one name: other weights are another model, and none of them is out of reach."""

from __future__ import annotations

from simulator import Simulator
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


def test_both_files_can_be_asked_for(make_app: MakeApp) -> None:
    with Simulator() as first, Simulator(weights="other") as second:
        client = make_app(f"{first.url},{second.url}").test_client()
        wait_until(lambda: client.get(f"{PREFIX}/health").json["webuis"]["available"] == 2, "both are there")
        ids = [model["id"] for model in client.get(f"{PREFIX}/models").json["models"]]
        (other,) = (one for one in ids if one.startswith("v1-5-pruned-emaonly ["))
        assert client.post(f"{PREFIX}/txt2img", json={**BODY, "model": other}).json["model"] == other
        assert (len(first.generations), len(second.generations)) == (0, 1)
        for _ in range(2):
            assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200
        assert (len(first.generations), len(second.generations)) == (2, 1), "the name alone is the first WebUI's file"


def test_files_of_the_same_weights_are_one_model(make_app: MakeApp) -> None:
    with Simulator() as first, Simulator() as second:
        client = make_app(f"{first.url},{second.url}").test_client()
        wait_until(lambda: client.get(f"{PREFIX}/health").json["webuis"]["available"] == 2, "both are there")
        assert len(client.get(f"{PREFIX}/models").json["models"]) == 3
