"""Models, samplers and sizes over the whole pool: what a name stands for, and who can do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sd_client.errors import NoWebUIError
from sd_client.matching import find_checkpoint, loaded_model
from sd_client.models import Capabilities, Checkpoint, Hires, ListedLora, Lora, ReferenceMethod, normal_form
from sd_client.pool import PoolView
from sd_client.references import methods_of
from sd_client.samplers import spell
from sd_client.states import WebUIState
from services.extras import chosen_upscaler, settle_extras
from services.model_names import ModelNames, union
from services.problems import (
    CapabilityMissingError,
    InvalidParamsError,
    ModelNotFoundError,
    Problem,
    known_names,
    nearest,
)
from services.webui_limits import (
    Wanted,
    able_in_steps,
    able_to_fill,
    few_steps_problems,
    fill_problems,
    limit_problems,
)


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """One model of the pool. ``id`` is what a caller best asks for: an alias if there is one."""

    id: str
    checkpoint: Checkpoint
    loaded: bool
    default: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """
    :param model: the name the caller used, or the default.
    :param size_step: derived sizes are multiples of this, pixels.
    :param most_pixels: and of no more pixels; None if no bound is known.
    :param plain_inpainting: whether it may go to a WebUI without ``inpaint_options``.
    :param loras: by the names that the WebUIs list.
    :param reference_methods: by which a reference picture may be used; empty if there is none.
    """

    model: str
    checkpoint: Checkpoint
    sampler: str | None
    scheduler: str | None
    size_step: int
    most_pixels: int | None = None
    plain_inpainting: bool = False
    loras: tuple[Lora, ...] = ()
    clip_skip: int = 1
    hires: Hires | None = None
    reference_methods: tuple[ReferenceMethod, ...] = ()


class Catalog:
    """
    :param look: the pool as it is now.
    :param aliases: ``SD_MODEL_ALIASES``.
    """

    def __init__(
        self,
        look: Callable[[], PoolView],
        *,
        default_model: str,
        aliases: Mapping[str, str],
        default_sampler: str | None,
        default_scheduler: str | None,
        default_clip_skip: int = 1,
        default_upscaler: str | None = None,
    ) -> None:
        self._look = look
        self._default_model = default_model
        self._aliases = aliases
        self._kept: tuple[list[tuple[Checkpoint, ...]], list[Checkpoint], ModelNames] | None = None
        self._default_sampler = default_sampler
        self._default_scheduler = default_scheduler
        self._default_clip_skip = default_clip_skip
        self._default_upscaler = default_upscaler

    @property
    def default_model(self) -> str:
        return self._default_model

    @property
    def default_clip_skip(self) -> int:
        return self._default_clip_skip

    def models(self) -> tuple[ListedModel, ...]:
        """The union over the pool, including those of WebUIs that are down."""
        view = self._look()
        checkpoints, names = self._index(view.capabilities())
        default = names.find(self._default_model)
        loaded = [c for webui, state in view.states.items() if (c := _loaded(view, webui, state))]
        return tuple(
            ListedModel(
                id=names.public(checkpoint),
                checkpoint=checkpoint,
                loaded=any(_is_same(checkpoint, one) for one in loaded),
                default=checkpoint in default,
            )
            for checkpoint in checkpoints
        )

    def model_names(self) -> tuple[str, ...]:
        """What a request can call the models, aliases first; a name that could mean several is not among them."""
        checkpoints, names = self._index(self._look().capabilities())
        called = (*self._aliases, *map(names.public, checkpoints), *(one.model_name for one in checkpoints))
        return tuple(name for name in dict.fromkeys(called) if len(names.find(name)) == 1)

    def samplers(self) -> tuple[str, ...]:
        return _first_spellings(sampler.name for c in self._look().capabilities() for sampler in c.samplers)

    def schedulers(self) -> tuple[str, ...]:
        return tuple(label for _, label in self.labelled_schedulers())

    def labelled_schedulers(self) -> tuple[tuple[str, str], ...]:
        """Each one's name, and what people call it."""
        listed = (scheduler for c in self._look().capabilities() for scheduler in c.schedulers or ())
        first: dict[str, tuple[str, str]] = {}
        for scheduler in listed:
            label = (scheduler.aliases or (scheduler.name,))[0]
            first.setdefault(normal_form(label), (scheduler.name, label))
        return tuple(first.values())

    def upscalers(self) -> tuple[str, ...]:
        return _first_spellings(name for c in self._look().capabilities() for name in c.upscalers)

    def loras(self) -> tuple[ListedLora, ...]:
        """By name, the first WebUI's where several have one; of those that say its base, where any does."""
        found: dict[str, ListedLora] = {}
        for capabilities in self._look().capabilities():
            for lora in capabilities.loras:
                if lora.name not in found or (lora.base and not found[lora.name].base):
                    found[lora.name] = lora
        return tuple(found.values())

    def hires_upscalers(self) -> tuple[str, ...]:
        """What a second pass can enlarge by; empty if no WebUI makes one."""
        return tuple(dict.fromkeys(name for c in self._look().capabilities() for name in c.hires_upscalers))

    def reference_methods(self) -> tuple[ReferenceMethod, ...]:
        """By which some WebUI may use a reference picture; empty if none can take one."""
        return methods_of(way for c in self._look().capabilities() for way in c.references)

    def reference_webuis(self) -> int:
        """How many WebUIs can take a reference picture."""
        return sum(bool(c.references) for c in self._look().capabilities())

    def upscale_upscalers(self) -> tuple[str, ...]:
        """By what a picture can be enlarged; empty if no WebUI can do that."""
        return _first_spellings(name for c in self._look().capabilities() if c.upscales for name in c.upscalers)

    def choose_upscaler(self, asked: str | None) -> str:
        """
        :param asked: in any spelling; None for the default.
        :raises CapabilityMissingError: no WebUI can enlarge a picture.
        :raises InvalidParamsError: none has this upscaler.
        :raises NoWebUIError: no WebUI has ever been seen, so nothing can be said.
        """
        self._seen(self._look().capabilities())
        return chosen_upscaler(asked, self.upscale_upscalers(), default=self._default_upscaler)

    def upscaler_problems(self, asked: str | None) -> list[Problem]:
        """What :meth:`choose_upscaler` finds; an empty list if no WebUI has been seen yet."""
        try:
            self.choose_upscaler(asked)
        except InvalidParamsError as error:
            return list(error.problems)
        except NoWebUIError:
            return []
        return []

    def clip_skip(self) -> Literal[True] | None:
        """Whether a request can name one; None if no WebUI can do that."""
        return any(c.clip_skip for c in self._look().capabilities()) or None

    def simulated(self) -> Literal["none", "some", "all"]:
        """Which of the WebUIs are simulators, which paint without a model; "none" if none has been seen yet."""
        seen = {c.simulated for c in self._look().capabilities()}
        return "none" if True not in seen else "some" if False in seen else "all"

    def default_found(self, view: PoolView) -> int:
        """How many models ``SD_MODEL`` could mean: 1 if all is well."""
        return len(self._index(view.capabilities())[1].find(self._default_model))

    def namesakes(self, view: PoolView) -> tuple[str, ...]:
        """A sentence for each file that has another one's name on another WebUI, and other weights."""
        _, names = self._index(view.capabilities())
        return tuple(
            f"two WebUIs have a model {meant.model_name} with different weights: the name means {meant.title} "
            f"(hash {meant.hash}), the other one is {names.public(other)!r}"
            for meant, other in names.namesakes
        )

    def checkpoint(self, model: str) -> Checkpoint:
        """
        What a model's name stands for.

        :raises ModelNotFoundError:
        :raises NoWebUIError: no WebUI has ever been seen, so nothing can be said.
        """
        checkpoints, names = self._seen(self._look().capabilities())
        found = names.find(model)
        if len(found) != 1:
            known = [names.public(checkpoint) for checkpoint in checkpoints]
            raise ModelNotFoundError([_model_problem(model, found, known, asked=True)])
        return found[0]

    def problems(self, wanted: Wanted) -> list[Problem]:
        """What the pool cannot do; an empty list if no WebUI has been seen yet."""
        try:
            self.choose(wanted)
        except InvalidParamsError as error:
            return list(error.problems)
        except NoWebUIError:
            return []
        return []

    def choose(self, wanted: Wanted) -> Choice:
        """
        :raises ModelNotFoundError: the model is the only problem.
        :raises CapabilityMissingError: the only problem is what no WebUI can do.
        :raises InvalidParamsError: every problem that the pool has with this.
        :raises NoWebUIError: no WebUI has ever been seen, so nothing can be said.
        """
        everything = self._look().capabilities()
        model = wanted.model or self._default_model
        checkpoints, names = self._seen(everything)
        found = names.find(model)
        problems = []
        if len(found) != 1:
            known = [names.public(checkpoint) for checkpoint in checkpoints]
            problems = [_model_problem(model, found, known, asked=wanted.model is not None)]
        able = [c for c in everything if len(found) != 1 or find_checkpoint(c, found[0])]
        sampler = wanted.sampler or self._default_sampler
        # A default scheduler belongs to the default sampler: another sampler's caller did not ask for it.
        scheduler = wanted.scheduler or (None if wanted.sampler else self._default_scheduler)
        spelling = [c for c in able if spell(c, sampler, scheduler)]
        if not spelling:
            problems += [_of_setting(p, wanted) for p in _sampler_problems(able, sampler, scheduler)]
        able = spelling or able
        in_steps = able_in_steps(able, wanted, sampler=sampler, scheduler=scheduler)
        few = [] if in_steps else few_steps_problems(able, wanted, sampler=sampler, scheduler=scheduler)
        able = in_steps or able
        missing = fill_problems(able, wanted.inpaint_fill)
        able = able_to_fill(able, wanted.inpaint_fill) or able
        problems += [*few, *limit_problems(able, wanted), *missing]
        clip_skip = wanted.clip_skip or self._default_clip_skip
        has_extras = wanted.loras or wanted.hires or clip_skip > 1 or wanted.reference is not None
        extras = settle_extras(able, wanted, clip_skip) if has_extras else None
        if extras:
            problems += extras.problems
            missing += extras.missing
            able = extras.able
        if problems:
            raise _refusal(problems, missing)
        finest = min((c.limits for c in able), key=lambda limits: limits.sure_size_step)
        return Choice(
            model=model,
            checkpoint=found[0],
            sampler=sampler,
            scheduler=scheduler,
            size_step=finest.sure_size_step,
            most_pixels=finest.most_pixels,
            plain_inpainting=not all(c.inpaint_options for c in able),
            loras=extras.loras if extras else (),
            clip_skip=clip_skip,
            hires=extras.hires if extras else None,
            reference_methods=extras.reference_methods if extras else (),
        )

    def _seen(self, everything: tuple[Capabilities, ...]) -> tuple[list[Checkpoint], ModelNames]:
        """:raises NoWebUIError:"""
        if not everything:
            raise NoWebUIError("no WebUI has been reached yet", retry_after_s=5)
        checkpoints, names = self._index(everything)
        if not checkpoints:
            raise NoWebUIError("no WebUI has a model", retry_after_s=5)
        return checkpoints, names

    def _index(self, everything: tuple[Capabilities, ...]) -> tuple[list[Checkpoint], ModelNames]:
        """The union and its names; made anew only when some WebUI lists other files."""
        kept = self._kept
        if kept is None or kept[0] != [c.checkpoints for c in everything]:
            checkpoints = union([c.checkpoints for c in everything])
            names = ModelNames(checkpoints, self._aliases)
            kept = self._kept = [c.checkpoints for c in everything], list(checkpoints), names
        return kept[1], kept[2]


def _refusal(problems: list[Problem], missing: list[Problem]) -> InvalidParamsError:
    if len(problems) == 1 and problems[0].field == "model":
        return ModelNotFoundError(problems)
    return CapabilityMissingError(problems) if problems == missing else InvalidParamsError(problems)


def _loaded(view: PoolView, webui: str, state: WebUIState) -> Checkpoint | None:
    """The model in a WebUI's memory, as it is listed there."""
    if not state.available or state.capabilities is None:
        return None
    name = (view.schedule.loaded.get(webui) or loaded_model(state.capabilities) or "").lower()
    return next((c for c in state.capabilities.checkpoints if c.model_name.lower() == name), None)


def _is_same(checkpoint: Checkpoint, loaded: Checkpoint) -> bool:
    return checkpoint.model_name.lower() == loaded.model_name.lower() and checkpoint.may_be(loaded)


def _model_problem(name: str, found: Sequence[Checkpoint], known: Sequence[str], *, asked: bool) -> Problem:
    if found:
        message = f"is ambiguous: it could be {', '.join(checkpoint.title for checkpoint in found)}"
    else:
        message = f"is not a model of this service{nearest(name, known)} (known: {known_names(known)})"
    if asked:
        return Problem(field="model", message=message, received=name)
    return _none_given("model", name, message)


def _of_setting(problem: Problem, wanted: Wanted) -> Problem:
    """A problem with the sampler or scheduler, reported as the setting's if the caller named none."""
    if getattr(wanted, problem.field) is not None:
        return problem
    return _none_given(problem.field, str(problem.received), problem.message)


def _none_given(field: str, default: str, message: str) -> Problem:
    """The caller sent nothing, so that nothing of it is shown as received."""
    setting = f"SD_{field.upper()}"
    return Problem(
        field=field, message=f"none was given, and {setting}, this service's default ({default!r}), {message}"
    )


def _first_spellings(names: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(normal_form(name), name)
    return tuple(first.values())


def _sampler_problems(able: Sequence[Capabilities], sampler: str | None, scheduler: str | None) -> list[Problem]:
    """Which of the two names nobody knows, or that the two do not go together."""
    problems = []
    if sampler is not None and not any(spell(c, sampler, None) for c in able):
        names = _first_spellings(s.name for c in able for s in c.samplers)
        known = f" (known: {known_names(names)})" if names else "; no WebUI lists its samplers now, so leave it out"
        message = f"is not a sampler of this service{nearest(sampler, names)}{known}"
        problems.append(Problem(field="sampler", message=message, received=sampler))
    if scheduler is None:
        return problems
    names = _first_spellings((s.aliases or (s.name,))[0] for c in able for s in c.schedulers or ())
    if any(spell(c, None, scheduler) for c in able):
        if not problems:
            problems.append(_pair_problem(able, str(sampler), scheduler, names))
    # Without a list of schedulers they are parts of the samplers' names, and of an unknown sampler nothing can be said.
    elif names or not problems:
        known = f" (known: {known_names(names)})" if names else ""
        message = f"is not offered with this sampler{nearest(scheduler, names)}{known}"
        problems.append(Problem(field="scheduler", message=message, received=scheduler))
    return problems


def _pair_problem(able: Sequence[Capabilities], sampler: str, scheduler: str, names: Sequence[str]) -> Problem:
    """Each of the two is offered, and no WebUI has both for one job."""
    fitting = [name for name in names if any(spell(c, sampler, name) for c in able)]
    others = f"; with it go: {known_names(fitting)}" if fitting else "; leave scheduler out"
    message = f"cannot be combined with the sampler {sampler!r}, although each is offered{others}"
    return Problem(field="scheduler", message=message, received=scheduler)
