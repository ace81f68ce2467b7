"""What every client's script does around its calls: it reads each from standard input and prints what came of it."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping


def answer(functions: Mapping[str, Callable[..., object]]) -> None:
    """
    A line of standard input is a JSON object with the function's name as ``do`` and its arguments. A line is printed
    for each: JSON of what it returned, or of its exception's text as ``error`` and class as ``kind``.
    """
    lines, sys.stdout = sys.stdout, sys.stderr  # some packages print advice
    for line in sys.stdin:
        call = json.loads(line)
        print(json.dumps(_outcome(functions[call.pop("do")], call)), file=lines, flush=True)


def _outcome(function: Callable[..., object], arguments: dict[str, object]) -> object:
    try:
        return function(**arguments)
    except Exception as error:  # noqa: BLE001 - whatever the package raises is what is asked for
        return {"error": str(error), "kind": type(error).__name__}


def encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
