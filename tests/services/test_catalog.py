"""Names and what they stand for, over WebUIs that list different things."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from sd_client.errors import NoWebUIError
from sd_client.limits import Limits
from sd_client.matching import find_checkpoint
from sd_client.models import DUMMY_HASH, Capabilities, Checkpoint, ListedLora, Sampler
from sd_client.pool import PoolView
from sd_client.schedule import Schedule
from sd_client.states import WebUIState
from services.catalog import Catalog
from services.generation_request import AskedHires, AskedLora
from services.model_names import ModelNames
from services.problems import CapabilityMissingError, InvalidParamsError, ModelNotFoundError, nearest
from services.webui_limits import Wanted

V15 = Checkpoint(
    title="v1-5-pruned-emaonly.safetensors [6ce0161689]",
    model_name="v1-5-pruned-emaonly",
    hash="6ce0161689",
    filename="v1-5-pruned-emaonly.safetensors",
)
SDXL = Checkpoint(
    title="sd_xl_base_1.0.safetensors", model_name="sd_xl_base_1.0", filename="sd_xl_base_1.0.safetensors"
)
DREAM = Checkpoint(
    title="photo/dreamshaper_8.safetensors [879db523c3]",
    model_name="photo_dreamshaper_8",
    hash="879db523c3",
    filename="dreamshaper_8.safetensors",
)
SAMPLERS = tuple(Sampler(name=name) for name in ("Euler a", "Euler", "DPM++ 2M"))
STEP_64 = Limits(size_step=64, sure_size_step=64)
A, B = ListedLora(name="a", base="sd1"), ListedLora(name="b")
KARRAS = Sampler(name="karras", aliases=("Karras",))


def capabilities(*checkpoints: Checkpoint, **changes: object) -> Capabilities:
    own: dict[str, object] = {"checkpoints": checkpoints, "samplers": SAMPLERS, "schedulers": (KARRAS,)}
    return Capabilities(**{**own, **changes})


def catalog(*webuis: Capabilities | None, available: bool = True, running: dict[str, str] | None = None, **settings):
    states = {
        f"webui{number}": WebUIState(available=available, seen=1.0, capabilities=known)
        for number, known in enumerate(webuis)
    }
    view = PoolView(states=states, schedule=Schedule(loaded=running or {}), webuis=tuple(states), draining=False)
    own = {"default_model": "sd-v1-5", "aliases": {}, "default_sampler": None, "default_scheduler": None}
    return Catalog(lambda: view, **{**own, **settings})


@pytest.mark.parametrize(
    ("simulators", "expected"), [((), "none"), ((False, False), "none"), ((False, True), "some"), ((True, True), "all")]
)
def test_it_tells_whether_simulators_paint(simulators: tuple[bool, ...], expected: str) -> None:
    assert catalog(*(capabilities(V15, simulated=simulated) for simulated in simulators)).simulated() == expected


ONE = capabilities(V15, SDXL, DREAM, loaded=V15.title)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sd-v1-5", V15),
        ("SD-V1-5", V15),
        ("v1-5-pruned-emaonly", V15),
        ("v1-5-pruned-emaonly.safetensors", V15),
        ("v1-5-pruned-emaonly.safetensors [6ce0161689]", V15),
        ("6ce0161689", V15),
        ("6CE0161689", V15),
        ("sdxl", SDXL),
        ("SDXL", SDXL),
        ("sd_xl_base_1.0", SDXL),
        ("photo/dreamshaper_8.safetensors", DREAM),
        ("photo_dreamshaper_8", DREAM),
        ("dreamshaper_8", DREAM),
        ("Dreamshaper_8.SAFETENSORS", DREAM),
        ("house", DREAM),
        ("HOUSE", DREAM),
    ],
)
def test_every_name_of_a_model(name: str, found: Checkpoint) -> None:
    choice = catalog(ONE, aliases={"house": "dreamshaper_8"}).choose(Wanted(model=name))
    assert (choice.model, choice.checkpoint) == (name, found)


@pytest.mark.parametrize("name", ["v1-5", "sd_xl", "dreamshaper", "photo", "6ce016", "8888888888", "../v1-5", "*"])
def test_a_part_of_a_name_is_none(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog(ONE).choose(Wanted(model=name))
    (problem,) = caught.value.problems
    assert (problem.field, problem.received) == ("model", name)
    assert "(known: sd-v1-5, sdxl, photo_dreamshaper_8)" in problem.message


def test_the_default_model_is_named_as_such_where_it_is_missing() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        catalog(capabilities(SDXL)).choose(Wanted())
    (problem,) = caught.value.problems
    assert problem.received is None, "the caller sent none"
    assert problem.message == (
        "none was given, and SD_MODEL, this service's default ('sd-v1-5'), is not a model of this service (known: sdxl)"
    )


def test_a_pool_without_any_model_can_do_nothing() -> None:
    with pytest.raises(NoWebUIError, match="no WebUI has a model"):
        catalog(capabilities()).choose(Wanted(model="sdxl"))


def test_the_operators_alias_wins_over_a_known_one() -> None:
    assert catalog(ONE, aliases={"sdxl": "dreamshaper_8"}).choose(Wanted(model="sdxl")).checkpoint == DREAM
    with pytest.raises(ModelNotFoundError):
        catalog(ONE, aliases={"sdxl": "gone"}).choose(Wanted(model="sdxl"))


def test_two_files_of_one_name_are_told_apart_or_refused() -> None:
    other = Checkpoint(
        title="anime/dreamshaper_8.safetensors", model_name="anime_dreamshaper_8", filename="dreamshaper_8.safetensors"
    )
    both = catalog(capabilities(V15, DREAM, other))
    assert both.choose(Wanted(model="anime_dreamshaper_8")).checkpoint == other
    assert both.choose(Wanted(model="photo/dreamshaper_8.safetensors")).checkpoint == DREAM
    with pytest.raises(ModelNotFoundError, match=r"ambiguous: it could be photo/dreamshaper_8.*, anime/dreamshaper_8"):
        both.choose(Wanted(model="dreamshaper_8"))


def test_the_union_of_a_pool() -> None:
    unhashed = Checkpoint(
        title="v1-5-pruned-emaonly.safetensors", model_name="v1-5-pruned-emaonly", filename=V15.filename
    )
    dummy = Checkpoint(title="sd_xl_base_1.0", model_name="sd_xl_base_1.0", hash=DUMMY_HASH)
    listed = catalog(capabilities(unhashed), capabilities(V15, loaded="x"), capabilities(dummy), None).models()
    assert [(model.id, model.checkpoint.hash) for model in listed] == [("sd-v1-5", "6ce0161689"), ("sdxl", None)]
    assert [model.default for model in listed] == [True, False]


def test_loaded_is_what_the_webui_ran_last() -> None:
    def loaded(**changes) -> list[str]:
        return [model.id for model in catalog(ONE, **changes).models() if model.loaded]

    assert loaded() == ["sd-v1-5"]
    assert loaded(running={"webui0": "sd_xl_base_1.0"}) == ["sdxl"]
    assert loaded(available=False) == []


def problems(known: Catalog, wanted: Wanted) -> dict[str, str]:
    return {problem.field: problem.message for problem in known.problems(wanted)}


def test_all_problems_at_once() -> None:
    stepped = capabilities(V15, limits=STEP_64, max_seed=2**31 - 1)
    wanted = Wanted(model="nome", sampler="Eular", scheduler="Carras", width=520, height=24, seed=2**31)
    found = problems(catalog(stepped), wanted)
    assert found.keys() == {"model", "sampler", "scheduler", "width", "height", "seed"}
    assert "did you mean 'Euler'" in found["sampler"]
    assert "did you mean 'Karras'" in found["scheduler"]
    assert found["width"].endswith("the nearest are 512 and 576")
    assert found["height"].endswith("the nearest are 64")
    with pytest.raises(InvalidParamsError) as caught:
        catalog(stepped).choose(wanted)
    assert not isinstance(caught.value, ModelNotFoundError)


def test_the_seeds_of_a_whole_batch_must_fit() -> None:
    cut = catalog(capabilities(V15, max_seed=2**31 - 1))
    assert problems(cut, Wanted(seed=2**31 - 2, batch_size=2)) == {}
    (found,) = cut.problems(Wanted(seed=2**31 - 2, batch_size=3))
    assert (found.field, found.received) == ("seed", 2**31 - 2)
    assert found.message == "must be at most 2147483645 for this model with batch_size 3: image i has seed + i"


def test_no_problem_where_one_webui_of_the_pool_can() -> None:
    known = catalog(capabilities(V15, limits=STEP_64), capabilities(V15))
    assert problems(known, Wanted(width=520)) == {}
    assert known.choose(Wanted(width=520)).size_step == 8


def test_a_size_that_nobody_has_tried_is_asked_for_but_derived_ones_are_safe() -> None:
    known = catalog(capabilities(V15, clamps=True, limits=Limits(size_step=8, sure_size_step=64)))
    assert problems(known, Wanted(width=520, height=520)) == {}
    assert known.choose(Wanted()).size_step == 64


def test_what_was_seen_to_be_too_large_is_refused_with_what_can_be_painted() -> None:
    small = capabilities(V15, limits=Limits(too_many_pixels=1024 * 1024, most_pixels=832 * 832))
    found = problems(catalog(small), Wanted(width=1024, height=1024))
    assert found.keys() == {"width", "height"}
    assert f"{832 * 832} pixels can be generated" in found["width"]
    assert problems(catalog(small), Wanted(width=1024, height=960)) == {}
    assert problems(catalog(small, capabilities(V15)), Wanted(width=1024, height=1024)) == {}
    assert catalog(small).choose(Wanted()).most_pixels == 832 * 832


def test_what_no_single_webui_can_do_is_refused_though_each_part_can_be_done() -> None:
    coarse = capabilities(V15, limits=STEP_64)
    small = capabilities(V15, limits=Limits(too_many_pixels=1024 * 1024, most_pixels=832 * 832))
    known = catalog(coarse, small)
    assert problems(known, Wanted(width=1024, height=1024)) == {}
    assert problems(known, Wanted(width=520, height=520)) == {}
    assert "any single WebUI" in problems(known, Wanted(width=1096, height=1096))["width"]


@pytest.mark.parametrize(("setting", "field"), [("default_sampler", "sampler"), ("default_scheduler", "scheduler")])
def test_a_default_that_nobody_offers_is_told_as_the_setting(setting: str, field: str) -> None:
    (found,) = catalog(capabilities(V15), **{setting: "Nope"}).problems(Wanted())
    assert (found.field, found.received) == (field, None)
    assert f"SD_{field.upper()}, this service's default ('Nope')" in found.message


def test_a_sampler_is_refused_while_no_list_tells_it() -> None:
    blind = catalog(capabilities(V15, samplers=(), schedulers=()))
    assert problems(blind, Wanted()) == {}
    assert "no WebUI lists its samplers now, so leave it out" in problems(blind, Wanted(sampler="Euler"))["sampler"]


@pytest.mark.parametrize(("field", "allowed", "refused"), [("steps", 1, 2), ("cfg_scale", 1.0, 7.5)])
def test_what_was_seen_to_be_lowered_is_refused(field: str, allowed: float, refused: float) -> None:
    turbo = capabilities(V15, limits=Limits(most_steps=1, most_cfg_scale=1.0))
    assert problems(catalog(turbo), Wanted(**{field: allowed})) == {}
    assert problems(catalog(turbo), Wanted(**{field: refused})) == {field: "must be at most 1 for this model"}


def test_only_webuis_with_the_model_count() -> None:
    known = catalog(capabilities(V15, limits=STEP_64), capabilities(SDXL))
    assert problems(known, Wanted(model="sd-v1-5", width=520)).keys() == {"width"}
    assert problems(known, Wanted(model="sdxl", width=520)) == {}


def test_a_pair_that_does_not_go_together_is_told_as_a_pair() -> None:
    exponential = Sampler(name="exponential", aliases=("Exponential",))
    one = capabilities(V15, samplers=(Sampler(name="Euler"),), schedulers=(KARRAS,))
    other = capabilities(V15, samplers=(Sampler(name="LCM"),), schedulers=(exponential,))
    found = problems(catalog(one, other), Wanted(sampler="Euler", scheduler="Exponential"))
    said = "cannot be combined with the sampler 'Euler', although each is offered; with it go: Karras"
    assert found == {"scheduler": said}


def test_a_name_of_two_does_not_go_with_a_third() -> None:
    exponential = Sampler(name="exponential", aliases=("Exponential",))
    both = capabilities(V15, schedulers=(KARRAS, exponential))
    found = problems(catalog(both), Wanted(sampler="DPM++ 2M Karras", scheduler="Exponential"))
    assert found["scheduler"].endswith("although each is offered; with it go: Karras")


def test_a_name_is_never_suggested_for_itself() -> None:
    assert nearest("Exponential", ["Exponential"]) == ""
    assert nearest("exponential", ["Exponential"]) == "; did you mean 'Exponential'?"


def test_schedulers_without_another_name_are_listed() -> None:
    server = capabilities(V15, schedulers=(Sampler(name="karras"),))
    found = problems(catalog(server), Wanted(sampler="Euler", scheduler="Carras"))
    assert found["scheduler"].endswith("did you mean 'karras'? (known: karras)")


def test_a_scheduler_is_not_doubted_where_only_joined_names_exist() -> None:
    old = capabilities(V15, samplers=(Sampler(name="DPM++ 2M Karras"), Sampler(name="Euler")), schedulers=None)
    assert problems(catalog(old), Wanted(sampler="DPM++ 2M", scheduler="Karras")) == {}
    assert problems(catalog(old), Wanted(sampler="Eular", scheduler="Karras")).keys() == {"sampler"}
    assert problems(catalog(old), Wanted(sampler="Euler", scheduler="Karras")).keys() == {"scheduler"}


def test_the_defaults_of_the_operator() -> None:
    known = catalog(ONE, default_sampler="DPM++ 2M", default_scheduler="karras")
    chosen = known.choose(Wanted())
    assert (chosen.sampler, chosen.scheduler) == ("DPM++ 2M", "karras")
    chosen = known.choose(Wanted(sampler="Euler a"))
    assert (chosen.sampler, chosen.scheduler) == ("Euler a", None)
    chosen = known.choose(Wanted(scheduler="karras"))
    assert (chosen.sampler, chosen.scheduler) == ("DPM++ 2M", "karras")


def test_before_anything_was_seen() -> None:
    for known in (catalog(), catalog(None)):
        with pytest.raises(NoWebUIError):
            known.choose(Wanted())
        assert known.problems(Wanted(model="nome")) == []
        assert (known.models(), known.samplers(), known.schedulers(), known.upscalers(), known.loras()) == ((),) * 5


def test_lists_have_each_name_once() -> None:
    native = capabilities(
        V15, samplers=(Sampler(name="euler_a"), Sampler(name="lcm")), schedulers=(Sampler(name="KARRAS"),), loras=(A,)
    )
    known = catalog(capabilities(V15, loras=(B, A), upscalers=("Lanczos",)), native)
    assert known.samplers() == ("Euler a", "Euler", "DPM++ 2M", "lcm")
    assert known.schedulers() == ("Karras",)
    assert (known.loras(), known.upscalers()) == ((B, A), ("Lanczos",))


def test_a_long_list_is_cut_in_messages() -> None:
    many = [Checkpoint(title=f"model{number}", model_name=f"model{number}") for number in range(50)]
    with pytest.raises(ModelNotFoundError, match="model19 and 30 more"):
        catalog(capabilities(*many), default_model="model0").choose(Wanted(model="x"))


def test_nearest() -> None:
    assert nearest("Step", ["steps", "seed"]) == "; did you mean 'steps'?"
    assert nearest("xyz", ["steps", "seed"]) == ""


def _twins(*, hashes: tuple[str | None, str | None]) -> Capabilities:
    first, second = (
        Checkpoint(title=f"{folder}/model.safetensors", model_name=f"{folder}_model", hash=hash_)
        for folder, hash_ in zip("ab", hashes, strict=True)
    )
    return Capabilities(checkpoints=(first, second))


@pytest.mark.parametrize("hashes", [(None, None), ("1111111111", None), ("1111111111", "2222222222")])
@pytest.mark.parametrize("name", ["b_model", "b/model.safetensors", "B_MODEL"])
def test_files_of_one_name_in_two_folders_are_two_models(hashes: tuple[str | None, str | None], name: str) -> None:
    twins = _twins(hashes=hashes)
    found = ModelNames(dict.fromkeys(twins.checkpoints, 0), {}).find(name)
    assert found == [twins.checkpoints[1]]
    assert find_checkpoint(twins, found[0]) is twins.checkpoints[1]


def test_a_file_keeps_its_name_where_a_subfolder_has_one_of_the_same() -> None:
    copy = Checkpoint(
        title="other/v1-5-pruned-emaonly.safetensors", model_name="other_v1-5-pruned-emaonly", filename=V15.filename
    )
    known = catalog(capabilities(copy, V15))
    assert [(model.id, model.default) for model in known.models()] == [
        ("other_v1-5-pruned-emaonly", False),
        ("sd-v1-5", True),
    ]
    for name in ("v1-5-pruned-emaonly", "v1-5-pruned-emaonly.safetensors", "V1-5-Pruned-Emaonly", "sd-v1-5", None):
        assert known.choose(Wanted(model=name)).checkpoint == V15
    assert known.choose(Wanted(model="other_v1-5-pruned-emaonly")).checkpoint == copy


def test_a_full_title_sends_that_file_though_another_one_is_the_same() -> None:
    copy = replace(V15, title="a copy.safetensors [6ce0161689]", model_name="a copy", filename="a copy.safetensors")
    both = capabilities(copy, V15)
    for checkpoint in (copy, V15):
        chosen = catalog(both).choose(Wanted(model=checkpoint.title)).checkpoint
        assert find_checkpoint(both, chosen) == checkpoint
    assert catalog(both).choose(Wanted(model="6ce0161689")).checkpoint == copy


OTHER_V15 = replace(V15, title="v1-5-pruned-emaonly.safetensors [aaaaaaaaaa]", hash="aaaaaaaaaa")


def test_files_of_one_name_with_other_weights_on_two_webuis_can_both_be_asked_for() -> None:
    first, second = capabilities(V15, loaded=V15.title), capabilities(OTHER_V15, SDXL, loaded=SDXL.title)
    pool = catalog(first, second)
    listed = [(model.id, model.default, model.loaded) for model in pool.models()]
    assert listed == [
        ("sd-v1-5", True, True),
        ("v1-5-pruned-emaonly [aaaaaaaaaa]", False, False),
        ("sdxl", False, True),
    ]
    other = pool.choose(Wanted(model="v1-5-pruned-emaonly [aaaaaaaaaa]")).checkpoint
    assert (find_checkpoint(first, other), find_checkpoint(second, other)) == (None, OTHER_V15)
    for name in ("sd-v1-5", "v1-5-pruned-emaonly", None):
        assert pool.choose(Wanted(model=name)).checkpoint == V15, "the first WebUI's"


def test_which_of_two_is_meant_does_not_change_with_the_order_of_looks() -> None:
    states = {
        webui: WebUIState(available=True, seen=1.0, capabilities=capabilities(checkpoint))
        for webui, checkpoint in (("second", OTHER_V15), ("first", V15))
    }
    view = PoolView(states=states, schedule=Schedule(), webuis=("first", "second"), draining=False)
    settings = {"aliases": {}, "default_sampler": None, "default_scheduler": None}
    assert Catalog(lambda: view, default_model="sd-v1-5", **settings).choose(Wanted()).checkpoint == V15


def test_a_file_that_no_webui_has_loaded_is_one_until_its_hashes_tell() -> None:
    unloaded = replace(V15, title="v1-5-pruned-emaonly.safetensors", hash=None)
    assert len(catalog(capabilities(unloaded), capabilities(OTHER_V15)).models()) == 1
    assert len(catalog(capabilities(V15), capabilities(unloaded), capabilities(OTHER_V15)).models()) == 2


def test_the_bare_name_of_two_files_is_ambiguous() -> None:
    twins = _twins(hashes=(None, None))
    assert ModelNames(dict.fromkeys(twins.checkpoints, 0), {}).find("model") == list(twins.checkpoints)


def test_an_alias_may_name_a_known_alias() -> None:
    file = Checkpoint(title="v1-5-pruned-emaonly.safetensors", model_name="v1-5-pruned-emaonly")
    names = ModelNames({file: 0}, {"fast": "sd-v1-5"})
    assert names.find("FAST") == [file]
    assert names.public(file) == "fast"


# --- LoRAs, second passes, clip skip ----------------------------------------------------------------------------------

LATENT = {"hires_upscalers": ("Latent", "Lanczos")}
HIRES = AskedHires(scale=1.5, width=None, height=None, upscaler="latent", steps=0, strength=0.7)
FIRST_PASS = {"width": 512, "height": 768, "steps": 20}


def asked(*names: str) -> tuple[AskedLora, ...]:
    return tuple(AskedLora(name=name, weight=0.5, field=f"loras[{place}].name") for place, name in enumerate(names))


def refusal(known: Catalog, **wanted: object) -> InvalidParamsError:
    with pytest.raises(InvalidParamsError) as caught:
        known.choose(Wanted(**wanted))
    return caught.value


@pytest.mark.parametrize(("name", "found"), [("a", "a"), ("A", "A"), ("b", "B"), ("ẞ", "ß")])
def test_a_lora_is_found_exactly_or_without_regard_to_case(name: str, found: str) -> None:
    loras = tuple(ListedLora(name=listed) for listed in ("a", "A", "B", "ß"))
    assert catalog(capabilities(V15, loras=loras)).choose(Wanted(loras=asked(name))).loras[0].name == found


def test_two_that_differ_in_case_alone() -> None:
    loras = tuple(ListedLora(name=listed) for listed in ("ab", "AB"))
    error = refusal(catalog(capabilities(V15, loras=loras)), loras=asked("Ab"))
    assert "ambiguous: it could be 'ab' or 'AB'" in error.problems[0].message


def test_loras_that_no_single_webui_has() -> None:
    known = catalog(capabilities(V15, loras=(A,)), capabilities(V15, loras=(B,)))
    assert [lora.name for lora in known.choose(Wanted(loras=asked("b"))).loras] == ["b"]
    error = refusal(known, loras=asked("a", "b"))
    assert [(problem.field, "no single WebUI" in problem.message) for problem in error.problems] == [("loras", True)]
    assert not isinstance(error, CapabilityMissingError)


def test_what_the_model_decides() -> None:
    """Only the WebUIs that have the model count."""
    known = catalog(capabilities(V15, loras=(A,), clip_skip="option", **LATENT), capabilities(SDXL))
    assert known.choose(Wanted(loras=asked("a"), hires=HIRES, clip_skip=2, **FIRST_PASS)).clip_skip == 2
    error = refusal(known, model="sdxl", loras=asked("a"), hires=HIRES, clip_skip=2, **FIRST_PASS)
    assert isinstance(error, CapabilityMissingError)
    assert {problem.field for problem in error.problems} == {"loras", "hires", "clip_skip"}


@pytest.mark.parametrize(("limits", "size"), [(Limits(), (768, 1152)), (STEP_64, (768, 1152))])
def test_the_size_of_a_second_pass(limits: Limits, size: tuple[int, int]) -> None:
    hires = catalog(capabilities(V15, limits=limits, **LATENT)).choose(Wanted(hires=HIRES, **FIRST_PASS)).hires
    assert hires is not None
    assert (hires.width, hires.height, hires.upscaler, hires.steps) == (*size, "Latent", 20)


def test_sides_by_a_factor_are_rounded_down_to_what_the_webui_paints() -> None:
    wanted = Wanted(hires=replace(HIRES, scale=1.3), width=512, height=512, steps=20)
    for limits, side in ((Limits(), 664), (STEP_64, 640)):
        hires = catalog(capabilities(V15, limits=limits, **LATENT)).choose(wanted).hires
        assert hires is not None
        assert (hires.width, hires.height) == (side, side)


def test_the_default_clip_skip() -> None:
    able, unable = capabilities(V15, clip_skip="field"), capabilities(V15)
    assert catalog(able, default_clip_skip=2).choose(Wanted()).clip_skip == 2
    assert catalog(able, default_clip_skip=2).choose(Wanted(clip_skip=1)).clip_skip == 1
    assert catalog(unable, default_clip_skip=2).choose(Wanted(clip_skip=1)).clip_skip == 1
    error = refusal(catalog(unable, default_clip_skip=2))
    assert "SD_CLIP_SKIP" in error.problems[0].message
    assert error.problems[0].received is None


def test_a_name_as_long_as_a_prompt_costs_little() -> None:
    many = tuple(ListedLora(name=f"lora {number}") for number in range(2000))
    known = catalog(capabilities(V15, loras=many))
    begun = time.process_time()
    error = refusal(known, loras=asked(*("x" * 1_000_000 for _ in range(5))))
    assert time.process_time() - begun < 5
    assert len(str(error)) < 5000
