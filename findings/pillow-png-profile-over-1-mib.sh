#!/bin/sh
# Pillow 13.0.0 writes a PNG with a colour profile of more than 1 MiB and cannot open it again.
# Seen: "ValueError: Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK", from Image.open.
# Such profiles are valid: those of presses have 0.5 to 3 MB. services/colour_tags.py reads the chunk itself, to 8 MB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import random
import sys

from PIL import Image, ImageCms

profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
for size in (1_000_000, 1_100_000):
    # Bytes after a profile's tags are allowed; these do not compress.
    padded = profile + random.Random(1).randbytes(size - len(profile))
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG", icc_profile=padded)
    file.seek(0)
    try:
        Image.open(file).load()
        outcome = "opened"
    except ValueError as error:
        outcome = f"ValueError: {error}"
    print(f"a profile of {size} bytes, written without complaint: {outcome}")
sys.exit(0 if outcome.startswith("ValueError: Decompressed data too large") else 1)
PYTHON
