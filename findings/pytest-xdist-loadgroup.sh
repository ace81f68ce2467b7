#!/bin/sh
# pytest-xdist 3.8.0 with pytest 9.2.0: --dist loadgroup does not bring the tests of a group to one process.
# Seen: "one group of 8 tests ran in 3 processes"; with pytest 9.1.1 in 1. xdist appends the group to Item._nodeid, which
# pytest 9.2 no longer reads. tests/clients brings its tests together by their order instead.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0 pytest-xdist==3.8.0
cat > "$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    time.sleep(0.2)
    print("process", os.environ["PYTEST_XDIST_WORKER"])
PYTHON
cd "$folder"
count=$(venv/bin/python -m pytest -q -n 3 --dist loadgroup -rP | grep '^process' | sort -u | wc -l)
echo "one group of 8 tests ran in $((count)) processes"
test "$count" -gt 1
