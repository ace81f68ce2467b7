"""AUTOMATIC1111 1.6: samplers and schedulers not yet apart, unknown samplers refused."""

from simulator.a1111 import A1111
from simulator.fields import Field
from simulator.forms import IMG2IMG_FIELDS, TXT2IMG_FIELDS
from simulator.samplers import JoinedSamplers

LATER_FIELDS = frozenset({"scheduler", "hr_scheduler", "hr_checkpoint_name", "force_task_id", "infotext", "mask_round"})


def without_later(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The fields that 1.6 knows; it ignores the rest."""
    return tuple(field for field in fields if field.name not in LATER_FIELDS)


class OldA1111(A1111):
    """1.6.0."""

    name = "a1111-1.6"
    samplers = JoinedSamplers()
    txt2img_fields = without_later(TXT2IMG_FIELDS)
    img2img_fields = without_later(IMG2IMG_FIELDS)
    missing = frozenset({"schedulers", "refresh-embeddings", "/internal/pending-tasks"})
