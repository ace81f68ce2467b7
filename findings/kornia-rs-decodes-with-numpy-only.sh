#!/bin/sh
# kornia-rs 0.2.0: decoding a PNG needs numpy, which the package declares only for its development. Without it the decoder does not raise an
# ImportError but panics, and the PanicException is no Exception: `except Exception` lets it pass.
# Seen: "requires []; decode raises PanicException, an Exception: False", and with numpy 2.4.6 "it decodes (16, 16)".
# services/ decodes with Pillow (docs/decisions/0020).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kornia-rs==0.2.0 pillow==13.0.0
cat >"$folder/decode.py" <<'PYTHON'
import importlib.metadata
import io
import sys

import kornia_rs
from PIL import Image

file = io.BytesIO()
Image.new("RGB", (16, 16), "red").save(file, "PNG")
try:
    decoded = kornia_rs.image.Image.decode(file.getvalue(), "RGB")
except BaseException as error:
    always = [one for one in importlib.metadata.requires("kornia-rs") or [] if "extra ==" not in one]
    kind, is_exception = type(error).__name__, isinstance(error, Exception)
    print(f"requires {always}; decode raises {kind}, an Exception: {is_exception}")
    sys.exit(0 if (always, kind, is_exception) == ([], "PanicException", False) else 1)
print(f"it decodes {decoded.width, decoded.height}")
sys.exit(2)
PYTHON
"$folder/venv/bin/python" "$folder/decode.py" 2>"$folder/panic" || { cat "$folder/panic"; exit 1; }
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
code=0
"$folder/venv/bin/python" "$folder/decode.py" || code=$?
test "$code" -eq 2
