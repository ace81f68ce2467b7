"""Every model that is listed can be asked for by its id, and gives that file: over any folders of any WebUIs."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sd_client.matching import find_checkpoint
from sd_client.models import Capabilities, Checkpoint
from sd_client.pool import PoolView
from sd_client.schedule import Schedule
from sd_client.states import WebUIState
from services.catalog import Catalog
from services.webui_limits import Wanted

FOLDERS = ("", "other/", "sub/deep/", "v1-5-pruned-emaonly/")
STEMS = (
    "v1-5-pruned-emaonly",
    "V1-5-pruned-emaonly",
    "dream shaper (8)",
    "other_v1-5-pruned-emaonly",
    "sd_xl_base_1.0",
)
EXTENSIONS = (".safetensors", ".ckpt", ".gguf")
#: Few, so that copies of one file are common; None: it was never loaded there.
WEIGHTS = (None, "one", "two")


def file(folder: str, stem: str, extension: str, weights: str | None) -> Checkpoint:
    """As A1111 lists it."""
    name = f"{folder}{stem}{extension}"
    sha = hashlib.sha256(weights.encode()).hexdigest()[:10] if weights else None
    return Checkpoint(
        title=f"{name} [{sha}]" if sha else name,
        model_name=f"{folder}{stem}".replace("/", "_"),
        hash=sha,
        filename=f"{stem}{extension}",
    )


files = st.builds(file, *(st.sampled_from(values) for values in (FOLDERS, STEMS, EXTENSIONS, WEIGHTS)))
folders = st.lists(files, min_size=1, max_size=6, unique_by=lambda one: one.path)
aliases = st.dictionaries(st.sampled_from(("house", "sdxl", *STEMS)), st.sampled_from(STEMS), max_size=2)


def catalog_of(pool: list[list[Checkpoint]], named: dict[str, str]) -> Catalog:
    states = {
        str(number): WebUIState(available=True, seen=1.0, capabilities=Capabilities(checkpoints=tuple(checkpoints)))
        for number, checkpoints in enumerate(pool)
    }
    view = PoolView(states=states, schedule=Schedule(), webuis=tuple(states), draining=False)
    return Catalog(lambda: view, default_model="sd-v1-5", aliases=named, default_sampler=None, default_scheduler=None)


@given(pool=st.lists(folders, min_size=1, max_size=3), named=aliases)
def test_every_id_that_is_listed_gives_its_file(pool: list[list[Checkpoint]], named: dict[str, str]) -> None:
    catalog = catalog_of(pool, named)
    listed = catalog.models()
    ids = [model.id for model in listed]
    assert len(set(ids)) == len(ids)
    for model in listed:
        assert catalog.choose(Wanted(model=model.id)).checkpoint == model.checkpoint


@given(checkpoints=folders)
def test_every_file_of_a_webui_is_listed_and_sent_by_its_own_title(checkpoints: list[Checkpoint]) -> None:
    catalog = catalog_of([checkpoints], {})
    assert [model.checkpoint for model in catalog.models()] == checkpoints
    for checkpoint in checkpoints:
        chosen = catalog.choose(Wanted(model=checkpoint.title)).checkpoint
        assert find_checkpoint(Capabilities(checkpoints=tuple(checkpoints)), chosen) == checkpoint


@given(checkpoints=folders)
def test_a_hash_is_never_ambiguous(checkpoints: list[Checkpoint]) -> None:
    """Several files with one hash are the same weights."""
    catalog = catalog_of([checkpoints], {})
    for checkpoint in checkpoints:
        if checkpoint.hash:
            assert catalog.choose(Wanted(model=checkpoint.hash)).checkpoint.hash == checkpoint.hash
