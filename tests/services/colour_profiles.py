"""ICC profiles made from published numbers, and what they mean worked out by hand: nothing of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

Colour = tuple[int, int, int]

_D50 = (0.9642, 1.0, 0.8249)

# The full primaries as XYZ under D50, as the usual profiles of these spaces have them.
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3_PRIMARIES = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_PRIMARIES = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))

# From light of that space to light of sRGB.
P3_TO_SRGB = ((1.2249402, -0.2249402, 0.0), (-0.0420570, 1.0420570, 0.0), (-0.0196376, -0.0786360, 1.0982736))
ADOBE_TO_SRGB = ((1.3983557, -0.3983557, 0.0), (0.0, 1.0, 0.0), (0.0, -0.0429290, 1.0429290))
BT2020_TO_SRGB = (
    (1.6604910, -0.5876411, -0.0728499),
    (-0.1245505, 1.1328999, -0.0083494),
    (-0.0181508, -0.1005789, 1.1187297),
)
_XYZ_TO_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)
SAME = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def srgb_light(sample: float) -> float:
    return sample / 12.92 if sample <= 0.04045 else float(((sample + 0.055) / 1.055) ** 2.4)


def srgb_sample(light: float) -> int:
    light = min(1.0, max(0.0, light))
    return round(255 * (light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


def power(gamma: float) -> Callable[[float], float]:
    return lambda sample: sample**gamma


def in_srgb(colour: Colour, matrix: Sequence[Sequence[float]], light_of: Callable[[float], float]) -> Colour:
    """What a colour of a space with this matrix and this curve is in sRGB."""
    light = [light_of(sample / 255) for sample in colour]
    red, green, blue = (srgb_sample(sum(a * b for a, b in zip(row, light, strict=True))) for row in matrix)
    return red, green, blue


def lab_in_srgb(lab: tuple[float, int, int]) -> Colour:
    """A colour as a press's profile tells it, under D50."""
    lightness, a, b = lab
    y = (lightness + 16) / 116
    cubes = (y + a / 500, y, y - b / 200)
    xyz = [
        white * (value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29))
        for white, value in zip(_D50, cubes, strict=True)
    ]
    red, green, blue = (srgb_sample(sum(p * q for p, q in zip(row, xyz, strict=True))) for row in _XYZ_TO_SRGB)
    return red, green, blue


def curve(light_of: Callable[[float], float]) -> bytes:
    values = [round(65535 * light_of(number / 1023)) for number in range(1024)]
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *values)


def profile(
    tags: dict[bytes, bytes], *, space: bytes = b"RGB ", kind: bytes = b"mntr", connection: bytes = b"XYZ "
) -> bytes:
    """Version 2, with these tags."""
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4x4s4s4s4s12x4s28x", start + len(data), b"\x02\x40\0\0", kind, space, connection, b"acsp")
    head += _fixed(_D50)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + data


def rgb(
    primaries: Sequence[Sequence[float]], light_of: Callable[[float], float], *, padding: int = 0, **other: bytes
) -> bytes:
    """:param padding: bytes of text in it."""
    tags = {b"wtpt": _xyz(_D50)}
    tags |= {name: _xyz(xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(light_of))
    if padding:
        # Nothing that compresses: a stream of changing numbers.
        tags[b"cprt"] = b"text\0\0\0\0" + bytes((number * number >> 7) % 251 + 1 for number in range(padding)) + b"\0"
    return profile(tags | {name.encode(): body for name, body in other.items()})


def grey(light_of: Callable[[float], float]) -> bytes:
    return profile({b"wtpt": _xyz(_D50), b"kTRC": curve(light_of)}, space=b"GRAY")


def ink_lab(cyan: int, magenta: int, yellow: int, black: int) -> tuple[float, int, int]:
    """How the press of :func:`cmyk` prints full inks (0 or 1 each); such that Lab's 8 bits hold it."""
    lightness = 100 - 35 * cyan - 30 * magenta - 5 * yellow
    a, b = -30 * cyan + 60 * magenta - 4 * yellow, -40 * cyan - 4 * magenta + 70 * yellow
    return (max(10, lightness * (0.15 if black else 1)), 0 if black else a, 0 if black else b)


def cmyk() -> bytes:
    """A press whose table has nothing but its corners."""
    corners = [ink_lab(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = bytes(
        value for lab in corners for value in (round(lab[0] * 2.55), round(lab[1]) + 128, round(lab[2]) + 128)
    )
    identity = _fixed((1, 0, 0, 0, 1, 0, 0, 0, 1))
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + straight * 4 + table + straight * 3
    return profile({b"wtpt": _xyz(_D50), b"A2B0": lut}, space=b"CMYK", kind=b"prtr", connection=b"Lab ")


def _fixed(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


SRGB = rgb(SRGB_PRIMARIES, srgb_light)
P3 = rgb(P3_PRIMARIES, srgb_light)
ADOBE = rgb(ADOBE_PRIMARIES, power(2.2))
