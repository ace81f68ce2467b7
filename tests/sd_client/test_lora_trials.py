"""A LoRA is tried once on each WebUI with each model, and what is known of it ends with its file, or after a while."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import DroppedError, InvalidAnswerError, UselessLoraError
from sd_client.lora_trials import LoraTrials
from sd_client.models import GenerationParams, Lora, UsedLora
from sd_client.small_jobs import SmallJobs
from sd_client.trials import FAILED_S, Trials
from simulator import Simulator
from state.sqlite import STATE_FILE, SqliteStore
from tests.clock import Clock
from tests.sd_client.jobs import job


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A WebUI, and what is known of its LoRAs."""

    webui: Simulator
    small: SmallJobs
    trials: LoraTrials
    clock: Clock

    def job(self, *names: str, model: int = 0) -> GenerationParams:
        loras = tuple(Lora(name=name, weight=0.5) for name in names)
        return job(checkpoint=self.small.capabilities.checkpoints[model], loras=loras)

    def prove(self, params: GenerationParams) -> None:
        self.trials.prove(self.small, params)

    @property
    def painted(self) -> list[str]:
        return [json.loads(received.body)["prompt"] for received in self.webui.generations]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Simulator() as webui, closing(SqliteStore(tmp_path / STATE_FILE)) as store:
        client, clock = WebUIClient(webui.url), Clock()
        known = Trials(store, "lora", start_of=lambda webui: "its start", now=clock)
        small = SmallJobs(
            webui="w",
            client=client,
            capabilities=client.capabilities(),
            task_id="t",
            call=JobCall(),
            ends=time.monotonic() + 20,
        )
        yield Stage(webui=webui, small=small, trials=LoraTrials(known), clock=clock)


def test_each_is_tried_once_with_each_model(stage: Stage) -> None:
    for params, pictures in (
        (stage.job("add-detail"), 2),
        (stage.job("add-detail"), 2),
        (stage.job("blue coat", "add-detail"), 4),
        (stage.job("add-detail", model=1), 6),
    ):
        stage.prove(params)
        assert len(stage.painted) == pictures


@pytest.mark.parametrize("name", ["foreign", "corrupt"])
def test_one_that_does_nothing_is_tried_again_after_a_while(stage: Stage, name: str) -> None:
    params = stage.job("add-detail", name)
    with pytest.raises(UselessLoraError) as caught:
        stage.prove(params)
    assert caught.value.name == name
    assert stage.trials.useless(params) == {"w": name}
    tried = len(stage.painted)
    stage.clock.now += FAILED_S - 1
    with pytest.raises(UselessLoraError):
        stage.prove(params)
    assert len(stage.painted) == tried
    stage.clock.now += 2
    assert stage.trials.useless(params) == {}
    with pytest.raises(UselessLoraError):
        stage.prove(params)
    assert len(stage.painted) == tried + 2


def test_another_file_under_the_same_name(stage: Stage) -> None:
    params = stage.job("add-detail")
    stage.prove(params)
    for hash_ in (None, "bba6b0c75661"):
        stage.trials.check("w", params, (UsedLora(name="add-detail", hash=hash_),))
    with pytest.raises(DroppedError, match="has changed"):
        stage.trials.check("w", params, (UsedLora(name="add-detail", hash="0123456789ab"),))
    stage.prove(params)
    assert len(stage.painted) == 4


def test_one_that_was_dropped_later_is_tried_again(stage: Stage) -> None:
    params = stage.job("add-detail")
    stage.prove(params)
    stage.trials.forget("w", params)
    stage.webui.set_fault("lora-drop", times=2)
    with pytest.raises(UselessLoraError):
        stage.prove(params)


@pytest.mark.parametrize("fault", ["wrong-size", "damaged"])
def test_a_picture_that_is_none_says_nothing_of_a_lora(stage: Stage, fault: str) -> None:
    params = stage.job("add-detail")
    stage.webui.set_fault(fault, times=1)
    with pytest.raises(InvalidAnswerError) as caught:
        stage.prove(params)
    assert not isinstance(caught.value, DroppedError)
    assert stage.trials.useless(params) == {}
    stage.prove(params)


def test_a_webui_that_changed_meanwhile(stage: Stage) -> None:
    without = replace(stage.small.capabilities, loras=())
    with pytest.raises(LookupError):
        stage.trials.prove(replace(stage.small, capabilities=without), stage.job("add-detail"))
