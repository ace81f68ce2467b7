"""Seeded noise from Pillow alone (its own `effect_noise` cannot be seeded)."""

from random import Random

from PIL import Image, ImageChops

GRAIN_TILE = 256
GRAIN_STRENGTH = 5  # Of 255, from the darkest to the brightest; makes files about as large as real ones.


def smooth_noise(size: tuple[int, int], cells: tuple[int, int], random: Random) -> Image.Image:
    """A grey field of soft blobs, `cells` of them across and down."""
    across, down = max(2, cells[0]), max(2, cells[1])
    field = Image.frombytes("L", (across, down), random.randbytes(across * down))
    return field.resize(size, Image.Resampling.BICUBIC)


def clouds(size: tuple[int, int], random: Random) -> Image.Image:
    """Three layers of soft noise, each finer and fainter, as one grey field."""
    # Made small and enlarged: nobody sees the difference in a cloud.
    small = (max(2, size[0] // 4), max(2, size[1] // 4))
    field = smooth_noise(small, (5, 4), random)
    for cells, share in (((11, 9), 0.38), ((25, 23), 0.24)):
        field = Image.blend(field, smooth_noise(small, cells, random), share)
    return field.resize(size, Image.Resampling.BICUBIC)


def coarse_noise(size: tuple[int, int], random: Random) -> Image.Image:
    """Coloured blobs, as a picture looks before the sampling has got anywhere."""
    cells = (max(2, size[0] // 8), max(2, size[1] // 8))
    return Image.merge("RGB", [smooth_noise(size, cells, random) for _ in range(3)])


def grain(picture: Image.Image, random: Random) -> Image.Image:
    """Add a little noise, alike in all channels."""
    tile = Image.frombytes("L", (GRAIN_TILE, GRAIN_TILE), random.randbytes(GRAIN_TILE * GRAIN_TILE))
    tile = tile.point([value * GRAIN_STRENGTH // 256 for value in range(256)])
    layer = Image.new("L", picture.size)
    for left in range(0, picture.width, GRAIN_TILE):
        for top in range(0, picture.height, GRAIN_TILE):
            layer.paste(tile, (left, top))
    return ImageChops.subtract(picture, Image.merge("RGB", (layer, layer, layer)))
