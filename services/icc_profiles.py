"""ICC profiles of RGB spaces that a file describes by numbers, so that one engine converts all colours.

The profiles have version 4 of the format (ICC.1:2010) and hold what a conversion needs: white, primaries, curve.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Matrix = tuple[tuple[float, float, float], ...]
Vector = tuple[float, float, float]

#: The white of the space that profiles connect through, as XYZ.
_D50: Vector = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


class Curve(NamedTuple):
    """From a sample to light, both 0 ... 1: ``(a * x + b) ** gamma`` from ``d`` on, ``c * x`` below."""

    gamma: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


class Chromaticities(NamedTuple):
    """x and y of each."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB = Chromaticities((0.3127, 0.3290), (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))


def rgb_profile(colours: Chromaticities, curve: Curve) -> bytes:
    """
    :raises ValueError: the chromaticities enclose no colours, or no number of them fits a profile.
    """
    try:
        columns = _adapted_primaries(colours)
        bodies = {
            b"wtpt": _xyz(_D50),
            **{name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
            **{name: _parametric(curve) for name in (b"rTRC", b"gTRC", b"bTRC")},
        }
    except (ZeroDivisionError, OverflowError, struct.error) as error:
        raise ValueError("these chromaticities are no RGB space") from error
    table, data = [], b""
    start = 128 + 4 + 12 * len(bodies)
    for name, body in bodies.items():
        table.append(name + struct.pack(">II", start + len(data), len(body)))
        data += body
    head = struct.pack(">I4x4s4s4s4s12x4s28x", start + len(data), b"\x04\x30\0\0", b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return head + _fixed(_D50) + bytes(128 - len(head) - 12) + struct.pack(">I", len(bodies)) + b"".join(table) + data


def _adapted_primaries(colours: Chromaticities) -> list[Vector]:
    """XYZ of the full primaries, seen under D50."""
    white = _from_xy(colours.white)
    primaries = [_from_xy(xy) for xy in (colours.red, colours.green, colours.blue)]
    amounts = _applied(_inverse(_transposed(primaries)), white)
    full = [_scaled(primary, amount) for primary, amount in zip(primaries, amounts, strict=True)]
    cones = zip(_applied(_BRADFORD, _D50), _applied(_BRADFORD, white), strict=True)
    ratios = [there / here for there, here in cones]
    inverse = _inverse(_BRADFORD)
    return [
        _applied(inverse, _vector(cone * ratio for cone, ratio in zip(_applied(_BRADFORD, one), ratios, strict=True)))
        for one in full
    ]


def _from_xy(xy: tuple[float, float]) -> Vector:
    x, y = xy
    return x / y, 1.0, (1 - x - y) / y


def _vector(values: Iterable[float]) -> Vector:
    first, second, third = values
    return first, second, third


def _scaled(vector: Vector, factor: float) -> Vector:
    return _vector(value * factor for value in vector)


def _applied(matrix: Sequence[Vector], vector: Vector) -> Vector:
    return _vector(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _transposed(rows: Sequence[Vector]) -> list[Vector]:
    return [_vector(column) for column in zip(*rows, strict=True)]


def _inverse(matrix: Sequence[Vector]) -> list[Vector]:
    first, second, third = matrix
    crossed = _cross(second, third), _cross(third, first), _cross(first, second)
    determinant = sum(a * b for a, b in zip(first, crossed[0], strict=True))
    return _transposed([_scaled(vector, 1 / determinant) for vector in crossed])


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _fixed(values: Iterable[float]) -> bytes:
    """As s15Fixed16Number."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(vector: Vector) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(vector)


def _parametric(curve: Curve) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + _fixed(curve)
