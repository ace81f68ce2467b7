import pytest

from sd_client.models import DUMMY_HASH, Checkpoint, bare_name


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("sub/model.safetensors [6ce0161689]", "model"),
        ("sub\\model.ckpt", "model"),
        ("model.GGUF", "model"),
        ("model", "model"),
        (" model.pt ", "model"),
        ("sd_xl_base_1.0", "sd_xl_base_1.0"),
        ("sd_xl_base_1.0.safetensors", "sd_xl_base_1.0"),
        ("model [not a hash]", "model [not a hash]"),
        ("model.safetensors[6ce0161689]", "model"),
        ("", ""),
    ],
)
def test_bare_name(name: str, bare: str) -> None:
    assert bare_name(name) == bare


def test_all_names_of_a_checkpoint_most_exact_first() -> None:
    checkpoint = Checkpoint(
        title="sub/dream_8.safetensors [8b32423b5e]",
        model_name="sub_dream_8",
        hash="8b32423b5e",
        filename="dream_8.safetensors",
    )
    assert checkpoint.names() == (
        "sub/dream_8.safetensors [8b32423b5e]",
        "sub/dream_8.safetensors",
        "sub_dream_8",
        "sub_dream_8 [8b32423b5e]",
        "dream_8.safetensors",
        "dream_8",
        "8b32423b5e",
    )


def test_the_same_name_is_told_once_and_a_dummy_hash_is_none() -> None:
    checkpoint = Checkpoint(title="dream_8", model_name="dream_8", hash=DUMMY_HASH)
    assert checkpoint.names() == ("dream_8",)
    assert checkpoint.stem == "dream_8"


def test_the_stem_is_the_same_before_and_after_the_first_load() -> None:
    before = Checkpoint(title="dream_8.safetensors", model_name="dream_8")
    after = Checkpoint(title="dream_8.safetensors [8b32423b5e]", model_name="dream_8", hash="8b32423b5e")
    assert before.stem == after.stem == "dream_8"
