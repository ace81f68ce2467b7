"""Tags in prompts: which are read, which are refused, and what is left of the prompt."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_client.models import Lora
from services.lora_tags import TagError, read_tags, refuse_tags


@pytest.mark.parametrize(
    ("prompt", "words", "loras"),
    [
        ("a cat", "a cat", []),
        ("a < b > c, <b>, a:b, <:x>, <lora:>, <lora, <3:", "a < b > c, <b>, a:b, <:x>, <lora:>, <lora, <3:", []),
        ("a cat <lora:tiny:0.5>", "a cat", [("tiny", 0.5)]),
        ("<lora:tiny> a cat", "a cat", [("tiny", 1.0)]),
        ("a <lora:red dress v1.2:-1.5>cat<lora:b: 1>", "a  cat", [("red dress v1.2", -1.5), ("b", 1.0)]),
        ("<lora:a:1>", "", [("a", 1.0)]),
        ("<lora<lora:a:1>:b:1>", "<lora :b:1>", [("a", 1.0)]),
        ("a cat <lora:a<b:2>", "a cat", [("a<b", 2.0)]),
    ],
)
def test_tags_are_taken_out(prompt: str, words: str, loras: list[tuple[str, float]]) -> None:
    found = read_tags(prompt)
    assert found.prompt == words
    assert list(found.loras) == [Lora(name=name, weight=weight) for name, weight in loras]


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("<lora:a:0.5:1>", "one weight"),
        ("<lora:a:te=0:unet=1>", "one weight"),
        *((f"<lora:a:{weight}>", "between -2 and 2") for weight in ("", "x", "1,5", "0", "nan", "inf", "2.1", "-3")),
        ("<lyco:a:1>", "the only tag that is known is <lora:NAME:WEIGHT>"),
        ("<hypernet:a:1>", "the only tag that is known is <lora:NAME:WEIGHT>"),
        ("<LoRA:a:1>", "write <lora:NAME:WEIGHT>"),
        ("<lora:a:1", "without the '>'"),
        ("<LYCO:a", "without the '>'"),
        ("<é:x>", "the only tag that is known is <lora:NAME:WEIGHT>"),
    ],
)
def test_what_a_webui_would_leave_out_is_refused(tag: str, says: str) -> None:
    with pytest.raises(TagError, match=re.escape(says)) as caught:
        read_tags(f"a cat {tag} and a dog")
    assert tag.partition(":")[0] in str(caught.value)


def test_the_negative_prompt_has_none() -> None:
    refuse_tags("blurry <b>, a < b")
    with pytest.raises(TagError, match="read as words"):
        refuse_tags("blurry <lora:a:1>")


def test_a_long_tag_is_shown_in_part() -> None:
    with pytest.raises(TagError) as caught:
        read_tags(f"<lyco:{'x' * 5000}>")
    assert len(str(caught.value)) < 300


@given(st.text("<lora:a1.>", max_size=60))
def test_it_is_what_a1111_takes_for_tags(prompt: str) -> None:
    theirs = re.sub(r"<(\w+):([^>]+)>", " ", prompt)
    try:
        words = read_tags(prompt).prompt
    except TagError:
        assert theirs != prompt or "<lora:" in prompt
        return
    assert words in (theirs, theirs.strip())
    assert not re.search(r"<(\w+):([^>]+)>", words), "what is left has no tag"


@pytest.mark.parametrize("piece", ["<", "<a", "<a:", "<lora:a:1", ">", "a" * 100])
@pytest.mark.parametrize("end", ["", ">", "><a:"])
def test_long_prompts_take_no_longer_than_their_length(piece: str, end: str) -> None:
    begun = time.process_time()
    for prompt in (piece * 100_000, ">" + piece * 100_000 + end):
        with contextlib.suppress(TagError):
            read_tags(prompt)
    assert time.process_time() - begun < 5
