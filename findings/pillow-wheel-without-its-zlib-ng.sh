#!/bin/sh
# Pillow 13.0.0's wheels for Linux (manylinux) say that they have zlib-ng 2.3.3, and inflate and deflate every PNG with the
# system's zlib: they were built against zlib-ng, link to libz.so.1 by that name, and do not bring one along.
# Seen: "says zlib-ng 2.3.3, uses zlib 1.2.13 from outside the wheel". So a PNG costs what the old zlib costs.
# services/ inflates and deflates with the packages zlib-ng and isal where it needs no pixels (docs/decisions/0020).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from pathlib import Path

import PIL
from PIL import Image, features

file = io.BytesIO()
Image.new("RGB", (16, 16)).save(file, "PNG")
Image.open(file).load()
used = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libz.so" in line}
wheel = str(Path(PIL.__file__).parents[1])
inside = any(path.startswith(wheel) for path in used)
claimed, version = features.version_feature("zlib_ng"), features.version("zlib")
print(f"says zlib-ng {claimed}, uses zlib {version} from {'the' if inside else 'outside the'} wheel")
sys.exit(0 if claimed == "2.3.3" and used and not inside else 1)
PYTHON
