"""Conditional requests for a stored image, as data, each with what RFC 9110 has for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from werkzeug.http import http_date, parse_date

from tests.api.answers import problem_of


@dataclass(frozen=True, kw_only=True)
class Conditional:
    """
    :param headers: with ``{tag}``, ``{date}``, ``{before}`` (an hour), ``{after}`` and ``{size}`` in them.
    :param part: start and stop of what must come, of a 206; negative from the end.
    """

    status: int
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    part: tuple[int, int | None] | None = None

    @property
    def name(self) -> str:
        return " ".join((self.method, *(f"{name}: {value}" for name, value in self.headers.items())))[:80]


def _case(status: int, *, method: str = "GET", part: tuple[int, int | None] | None = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Conditional(status=status, method=method, headers=named, part=part)


CASES: tuple[Conditional, ...] = (
    # If-Match: a list, any, a weak tag (never strong), and what is no tag.
    _case(200, If_Match="{tag}"),
    _case(200, If_Match='"other", {tag}'),
    _case(200, If_Match="*"),
    _case(412, If_Match='"other"'),
    _case(412, If_Match='"other", "another"'),
    _case(412, If_Match="W/{tag}"),
    _case(200, method="HEAD", If_Match="{tag}"),
    _case(412, method="HEAD", If_Match='"other"'),
    # It is looked at instead of the date.
    _case(200, If_Match="{tag}", If_Unmodified_Since="{before}"),
    _case(412, If_Match='"other"', If_Unmodified_Since="{after}"),
    _case(200, If_Unmodified_Since="{date}"),
    _case(412, If_Unmodified_Since="{before}"),
    _case(200, If_Unmodified_Since="no date"),
    # If-None-Match, and instead of the date.
    _case(304, If_None_Match="{tag}"),
    _case(304, If_None_Match="W/{tag}"),
    _case(304, If_None_Match='"other", {tag}'),
    _case(304, If_None_Match="*"),
    _case(200, If_None_Match='"other"'),
    _case(200, If_None_Match='"other"', If_Modified_Since="{after}"),
    _case(304, If_None_Match="{tag}", If_Modified_Since="{before}"),
    _case(304, If_Modified_Since="{date}"),
    _case(304, If_Modified_Since="{after}"),
    _case(200, If_Modified_Since="{before}"),
    _case(200, If_Modified_Since="no date"),
    _case(304, method="HEAD", If_None_Match="*"),
    # Both, in their order.
    _case(412, If_Match='"other"', If_None_Match="{tag}"),
    _case(304, If_Match="{tag}", If_None_Match="{tag}"),
    # Conditions come before ranges.
    _case(304, If_None_Match="{tag}", Range="bytes=0-9"),
    _case(304, If_Modified_Since="{date}", Range="bytes=0-9"),
    _case(304, If_None_Match="{tag}", Range="bytes={size}-"),
    _case(412, If_Match='"other"', Range="bytes=0-9"),
    _case(206, If_Match="{tag}", Range="bytes=0-9", part=(0, 10)),
    _case(206, If_Match="*", Range="bytes=0-9", part=(0, 10)),
    _case(206, If_None_Match='"other"', Range="bytes=0-9", part=(0, 10)),
    # Ranges.
    _case(206, Range="bytes=5-5", part=(5, 6)),
    _case(206, Range="bytes=10-", part=(10, None)),
    _case(206, Range="bytes=-7", part=(-7, None)),
    _case(206, Range="bytes=-99999999", part=(0, None)),
    _case(206, Range="bytes=-" + "9" * 4000, part=(0, None)),
    _case(206, Range="bytes=0-99999999", part=(0, None)),
    _case(206, Range="bytes=0-" + "9" * 4000, part=(0, None)),
    _case(206, Range="Bytes = 0-9", part=(0, 10)),
    _case(206, Range="bytes=0-9,", part=(0, 10)),
    _case(416, Range="bytes={size}-"),
    _case(416, Range="bytes=-0"),
    _case(416, Range="bytes=" + "9" * 4000 + "-"),
    # An invalid range is ignored.
    _case(200, Range="lines=0-9"),
    _case(200, Range="seconds=-1"),
    _case(200, Range="bytes=9-0"),
    _case(200, Range="bytes=a-b"),
    _case(200, Range="bytes=-"),
    _case(200, Range="bytes="),
    _case(200, Range="bytes"),
    _case(200, Range="0-9"),
    _case(200, Range="bytes=--1"),
    _case(200, Range="bytes=0-9, 20-29"),
    _case(200, Range="bytes=" + ",".join(["0-"] * 100)),
    _case(200, method="HEAD", Range="bytes=0-9"),
    _case(200, method="HEAD", Range="bytes={size}-"),
    # If-Range: strong, and exactly.
    _case(206, Range="bytes=0-3", If_Range="{tag}", part=(0, 4)),
    _case(206, Range="bytes=0-3", If_Range="{date}", part=(0, 4)),
    _case(200, Range="bytes=0-3", If_Range='"other"'),
    _case(200, Range="bytes=0-3", If_Range="W/{tag}"),
    _case(200, Range="bytes=0-3", If_Range="{after}"),
    _case(200, Range="bytes={size}-", If_Range='"other"'),
    _case(200, If_Range="{tag}"),
)


def check(client: Any, path: str, case: Conditional) -> None:
    """Holds what is at the path of a Flask client against one case."""
    whole = client.get(path, buffered=True)
    date = parse_date(whole.headers["Last-Modified"])
    assert date is not None
    known = {
        "tag": whole.headers["ETag"],
        "size": str(len(whole.data)),
        "date": http_date(date),
        "before": http_date(date - timedelta(hours=1)),
        "after": http_date(date + timedelta(hours=1)),
    }
    headers = {name: value.format(**known) for name, value in case.headers.items()}
    answer = client.open(path, method=case.method, headers=headers, buffered=True)

    assert answer.status_code == case.status, answer.headers
    if case.status == 412:
        assert case.method == "HEAD" or problem_of(answer)["code"] == "precondition_failed"
        return
    if case.status == 416:
        assert problem_of(answer)["code"] == "range_not_satisfiable"
        assert answer.headers["Content-Range"] == f"bytes */{len(whole.data)}"
        return
    assert answer.headers["ETag"] == known["tag"]
    assert "immutable" in answer.headers["Cache-Control"]
    expected = whole.data if case.part is None else whole.data[slice(*case.part)]
    assert answer.data == (expected if case.status != 304 and case.method == "GET" else b"")
    if case.status != 304:
        assert answer.headers["Last-Modified"] == known["date"]
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Content-Length"] == str(len(expected))
    if case.status == 206:
        start = len(whole.data) - len(expected) if case.part[1] is None else case.part[0]
        assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{len(whole.data)}"
    else:
        assert "Content-Range" not in answer.headers
