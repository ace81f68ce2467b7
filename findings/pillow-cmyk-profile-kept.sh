#!/bin/sh
# Pillow 13.0.0: convert("RGB") of a CMYK picture keeps the CMYK profile, and save() embeds it in the RGB PNG.
# Seen: "PNG of mode RGB with a profile of CMYK"; viewers ignore it at best. (JPEG and WebP get none.)
# services/ writes no profile at all, and converts by it first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

from PIL import Image

# A profile's head, which is all that says what it is for: its size, and "CMYK" at byte 16.
profile = (132).to_bytes(4, "big") + bytes(8) + b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(92)
file = io.BytesIO()
Image.new("CMYK", (16, 16)).save(file, "JPEG", icc_profile=profile)
file.seek(0)
converted = Image.open(file).convert("RGB")
again = io.BytesIO()
converted.save(again, "PNG")
again.seek(0)
opened = Image.open(again)
space = (opened.info.get("icc_profile") or b"")[16:20].decode()
print(f"PNG of mode {opened.mode} with a profile of {space or 'nothing'}")
sys.exit(0 if (opened.mode, space) == ("RGB", "CMYK") else 1)
PYTHON
