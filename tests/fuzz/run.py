"""Coverage-guided fuzzing: ``python -m tests.fuzz.run pictures --seconds 600``.

What is found is written to ``tests/fuzz/cases/<target>/``, where ``tests/test_fuzz_cases.py`` plays it again for ever.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris has no wheel for this Python and this machine: nothing was fuzzed.")

with atheris.instrument_imports(include=["api", "services", "sd_client", "PIL", "requests", "urllib3", "http"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.seeds import SEEDS_OF, WORDS_OF
from tests.services.test_pictures_mutated import reseal

CASES = Path(__file__).parent / "cases"
#: A file of more bytes is slower to try and finds no more.
MOST_BYTES = 8192
#: Seconds one input may take: far more than any did. What takes longer is a finding.
SLOWEST_S = 10


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Damage; in half of the cases with the checksums of a PNG made right, so that it gets past them."""
    changed = bytes(atheris.Mutate(data, most))
    return reseal(changed)[:most] if random.Random(seed).random() < 0.5 else changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    cases = CASES / arguments.target
    cases.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS_OF[arguments.target]):
            (corpus / f"seed-{number}").write_bytes(seed[:MOST_BYTES])
        words.write_text("".join(f"{_quoted(word)}\n" for word in WORDS_OF[arguments.target]))
        options = [f"-max_total_time={arguments.seconds}", f"-max_len={MOST_BYTES}", f"-timeout={SLOWEST_S}"]
        options += [f"-dict={words}", f"-artifact_prefix={cases}/", "-rss_limit_mb=2048", "-print_final_stats=1"]
        target: Callable[[bytes], None] = TARGETS[arguments.target]
        custom = {"custom_mutator": mutated} if arguments.target == "pictures" else {}
        atheris.Setup([sys.argv[0], *options, str(corpus), str(cases)], target, **custom)
        atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"'


if __name__ == "__main__":
    main()
