"""What a picture file says about its colours, in one form: an ICC profile, or None if they are sRGB.

If chunks contradict each other, the PNG specification's order counts (section 4.3 of its third edition): cICP, iCCP,
sRGB, then gAMA with cHRM. What is damaged or unknown is ignored, as viewers do.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from zlib_ng import zlib_ng

from services.icc_profiles import SRGB, SRGB_CURVE, Chromaticities, Curve, rgb_profile

#: Profiles of presses, the largest in use, have 0.5 to 3 MB.
MAX_PROFILE_BYTES: Final = 8 * 1024 * 1024

#: PNG chunks that describe colours.
PNG_CHUNKS: Final = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})

_JPEG_MARK: Final = b"ICC_PROFILE\0"

#: By their numbers in H.273: those that pictures of standard range use.
_PRIMARIES: Final[Mapping[int, Chromaticities]] = {
    1: SRGB,
    9: Chromaticities((0.3127, 0.3290), (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: Chromaticities((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_BT709: Final = Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: Final[Mapping[int, Curve]] = {
    **dict.fromkeys((1, 6, 14, 15), _BT709),
    4: Curve(2.2),
    5: Curve(2.8),
    8: Curve(1.0),
    13: SRGB_CURVE,
}
_HDR_CURVES: Final = (16, 18)  # PQ and HLG

#: The gamma that PNG files write for sRGB, 1 / 2.2; libpng ignores smaller differences than this tolerance.
_SRGB_GAMMA: Final = 45455
_GAMMA_TOLERANCE: Final = 0.05
#: Of a chromaticity: files round them to two digits.
_XY_TOLERANCE: Final = 0.006


class Colours(NamedTuple):
    """
    :param profile: ICC; None if the colours are sRGB, or the file does not say.
    :param hdr: its samples are PQ or HLG, and nothing says how they look on an ordinary screen.
    """

    profile: bytes | None = None
    hdr: bool = False


def of_png(bodies: Mapping[bytes, bytes]) -> Colours:
    """:param bodies: of the chunks in :data:`PNG_CHUNKS` that the file has, by their types."""
    primaries, curve = _coded(bodies.get(b"cICP"))
    if primaries and curve:
        return Colours(_described(primaries, curve))
    profile = _inflated(bodies.get(b"iCCP"))
    if profile or b"sRGB" in bodies:
        return Colours(profile)
    if not {b"gAMA", b"cHRM"} & bodies.keys():
        return Colours(hdr=_is_hdr(bodies.get(b"cICP")))
    return Colours(_measured(bodies.get(b"gAMA"), bodies.get(b"cHRM")))


def of_jpeg(app2: Sequence[bytes]) -> Colours:
    """:param app2: bodies of the APP2 segments; a profile is spread over as many as it needs, each with its number."""
    pieces = [body[len(_JPEG_MARK) :] for body in app2 if body.startswith(_JPEG_MARK)]
    by_number = {piece[0]: piece[2:] for piece in pieces if len(piece) > 2 and piece[1] == len(pieces)}
    if not pieces or sorted(by_number) != list(range(1, len(pieces) + 1)):
        return Colours()
    return Colours(_bounded(b"".join(by_number[number] for number in sorted(by_number))))


def of_webp(iccp: bytes | None) -> Colours:
    return Colours(_bounded(iccp))


def of_bmp(data: bytes) -> Colours:
    """A BITMAPV5HEADER has a place for a profile; links to files are not followed."""
    (header_length,) = struct.unpack_from("<I", data.ljust(18, b"\0"), 14)
    if header_length < 124 or data[70:74] != b"DEBM":
        return Colours()
    start, length = struct.unpack_from("<II", data.ljust(138, b"\0"), 126)
    return Colours(_bounded(data[14 + start : 14 + start + length]))


def _bounded(profile: bytes | None) -> bytes | None:
    return profile if profile and len(profile) <= MAX_PROFILE_BYTES else None


def _inflated(body: bytes | None) -> bytes | None:
    """The profile in an iCCP chunk, which has a name, its end, the method 0, and the compressed profile."""
    name_end = (body or b"").find(b"\0")
    if body is None or name_end < 0 or body[name_end + 1 : name_end + 2] != b"\0":
        return None
    inflater = zlib_ng.decompressobj()
    try:
        profile = inflater.decompress(body[name_end + 2 :], MAX_PROFILE_BYTES)
    except zlib_ng.error:  # type: ignore[misc]  # an exception, whatever its types say
        return None
    return profile if inflater.eof else None


def _coded(cicp: bytes | None) -> tuple[Chromaticities | None, Curve | None]:
    """A cICP chunk for RGB samples with their full range; those of video have another."""
    if cicp is None or len(cicp) != 4 or cicp[2:] != b"\0\1":
        return None, None
    return _PRIMARIES.get(cicp[0]), _CURVES.get(cicp[1])


def _is_hdr(cicp: bytes | None) -> bool:
    return cicp is not None and len(cicp) == 4 and cicp[1] in _HDR_CURVES


def _measured(gama: bytes | None, chrm: bytes | None) -> bytes | None:
    """gAMA is the exponent from light to samples, in 100 000ths; each number of cHRM is in 100 000ths."""
    colours, gamma = SRGB, 0
    if chrm is not None and len(chrm) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", chrm)]
        colours = Chromaticities(*zip(values[::2], values[1::2], strict=True))
    if gama is not None and len(gama) == 4:
        gamma = int.from_bytes(gama, "big")
    of_srgb = not gamma or abs(gamma / _SRGB_GAMMA - 1) < _GAMMA_TOLERANCE
    if of_srgb and _is_near(colours, SRGB):
        return None
    return _described(colours, Curve(100_000 / gamma) if gamma else SRGB_CURVE)


def _is_near(one: Chromaticities, other: Chromaticities) -> bool:
    pairs = zip(one, other, strict=True)
    return all(abs(a - b) <= _XY_TOLERANCE for here, there in pairs for a, b in zip(here, there, strict=True))


def _described(colours: Chromaticities, curve: Curve) -> bytes | None:
    if (colours, curve) == (SRGB, SRGB_CURVE):
        return None
    try:
        return rgb_profile(colours, curve)
    except ValueError:
        return None
