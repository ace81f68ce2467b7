"""
Conditions and ranges of a request, as sections 13.2.2 and 14.2 of RFC 9110 define them.

werkzeug's own ``Response.make_conditional`` lets a range win over ``If-None-Match``, takes ``If-Match: *`` for a tag,
answers 412 with the image, and refuses ranges that must be ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, parse_etags

from api.errors import PreconditionFailedError

#: With any of these the answer may be something else than the whole image.
PRECONDITIONS = frozenset({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"})
CONDITIONS = PRECONDITIONS | {"HTTP_RANGE", "HTTP_IF_RANGE"}

_RANGE = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")

#: No size has more digits.
_MOST_DIGITS = 18


def is_known_already(request: Request, *, etag: str, modified: datetime | None) -> bool:
    """
    Whether the answer to a GET or HEAD is 304.

    :param etag: strong, without quotes.
    :param modified: None if there is no ``Last-Modified``.
    :raises PreconditionFailedError: the resource is not the one that the caller asks for.
    """
    headers, reads = request.headers, request.method in ("GET", "HEAD")
    second = modified and modified.replace(microsecond=0)
    if wanted := headers.get("If-Match", "").strip():
        tags = parse_etags(wanted)
        if not tags.star_tag and not tags.is_strong(etag):
            raise PreconditionFailedError
    elif second and (until := parse_date(headers.get("If-Unmodified-Since"))) and second > until:
        raise PreconditionFailedError
    if known := headers.get("If-None-Match", "").strip():
        found = parse_etags(known).contains_weak(etag)
        if found and not reads:
            raise PreconditionFailedError
        return found
    since = parse_date(headers.get("If-Modified-Since")) if reads else None
    return bool(since and second and second <= since)


def make_conditional(
    response: Response, request: Request, *, etag: str, modified: datetime | None, size: int | None = None
) -> Response:
    """
    The response that the request's conditions lead to: unchanged, 304, or 206.

    :param size: of the whole in bytes; None if ranges are not supported.
    :raises PreconditionFailedError: see :func:`is_known_already`.
    :raises RequestedRangeNotSatisfiable: the range lies outside.
    """
    if is_known_already(request, etag=etag, modified=modified):
        response.status_code = 304
        return response
    wanted = None if size is None else _part(request, etag=etag, modified=modified, size=size)
    if wanted is not None:
        start, stop = wanted
        only: Mapping[str, Any] = {"REQUEST_METHOD": "GET", "HTTP_RANGE": f"bytes={start}-{stop - 1}"}
        response.make_conditional(dict(only), accept_ranges=True, complete_length=size)
    return response


def _part(request: Request, *, etag: str, modified: datetime | None, size: int) -> tuple[int, int] | None:
    """
    The first byte and the one after the last; None for the whole, which may also answer a request for several parts.

    :raises RequestedRangeNotSatisfiable:
    """
    unit, _, ranges = request.headers.get("Range", "").partition("=")
    listed = [part for entry in ranges.split(",") if (part := entry.strip())]
    if request.method != "GET" or unit.strip().lower() != "bytes" or len(listed) != 1:
        return None
    found = _RANGE.fullmatch(listed[0])
    if found is None or not _is_of_this(request.headers.get("If-Range"), etag, modified):
        return None
    first, last, length = (_number(digits) for digits in found.groups(default=""))
    if first is None:
        start, stop = max(0, size - (length or 0)), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
        if last is not None and last < first:
            return None
    if start >= size:
        raise RequestedRangeNotSatisfiable(size)
    return start, stop


def _is_of_this(if_range: str | None, etag: str, modified: datetime | None) -> bool:
    """Only a strong tag, or exactly the same date, says that the bytes are the same."""
    if if_range is None:
        return True
    date = parse_date(if_range)
    if date is not None:
        return modified is not None and date == modified.replace(microsecond=0)
    return parse_etags(if_range).is_strong(etag)


def _number(digits: str) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
