"""The documentation as a reader gets it: the site, its examples, its settings, the commands that it tells to type."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from config import Config
from tests.running import DEADLINE_S, ROOT, Service, environment

DOCS = ROOT / "docs"
TYPED = ["README.md", "README.fr.md", "docs/quickstart.md", "docs/fr/quickstart.md"]
TYPED += [f"docs/guides/{name}.md" for name in ("deadlines", "following", "resuming", "seeds", "thumbnails")]

#: Commands that start something; the service is there already.
_STARTING = re.compile(r"make |.*http\.server|\.venv/bin/gunicorn|.* -m simulator")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


class _Page(HTMLParser):
    """A page's text, and what its browser would load for it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loaded.append(given["src"] or "")
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Page]:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment({"NO_MKDOCS_2_WARNING": "1"}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {str(path.relative_to(folder)): _Page(path.read_text()) for path in folder.rglob("*.html")}


def test_the_site_is_built_strictly_with_every_page(site: dict[str, _Page]) -> None:
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    built = {name.removesuffix(".html") for name in site}
    assert {re.sub(r"README$", "index", page) for page in pages} - built == set()


def test_nothing_is_loaded_from_other_hosts(site: dict[str, _Page]) -> None:
    loaded = {address for page in site.values() for address in page.loaded}
    assert any(address.endswith(".css") for address in loaded)
    assert [address for address in sorted(loaded) if re.match(r"(https?:)?//", address)] == []


def test_every_example_is_shown_as_it_is(site: dict[str, _Page]) -> None:
    shown = "\n".join("".join(page.texts) for page in site.values())
    examples = [path for path in (ROOT / "examples").iterdir() if path.suffix in (".sh", ".py", ".mjs", ".js", ".html")]
    assert examples
    assert [path.name for path in examples if path.read_text().strip() not in shown] == []


def documented_defaults() -> dict[str, str]:
    rows = re.findall(r"^\| (`[A-Z][^|]*) \| ([^|]*) \|", read("docs/configuration.md"), re.MULTILINE)
    found = {}
    for names, defaults in rows:
        settings = re.findall(r"`(\w+)`", names)
        values = re.findall(r"`([^`]+)`", defaults) or ["none"] * len(settings)
        found |= dict(zip(settings, values, strict=True))
    return found


def written(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default) if default not in (None, {}) else "none"


@pytest.mark.parametrize(
    "setting",
    sorted(set(Config.model_fields) - {"runtime_dir", "max_pixels", "max_hires_pixels", "max_upscale_pixels"}),
)
def test_every_settings_default_is_the_documented_one(setting: str) -> None:
    assert documented_defaults()[setting.upper()] == written(Config.model_fields[setting].default)


def test_max_pixels_is_written_in_full() -> None:
    for name in ("max_pixels", "max_hires_pixels", "max_upscale_pixels"):
        assert documented_defaults()[name.upper()] == str(Config.model_fields[name].default)


@pytest.mark.parametrize("page", ["README.fr.md", "llms.txt", "CONTRIBUTING.md"])
def test_links_and_files_that_are_named_are_there(page: str) -> None:
    text = read(page)
    named = re.findall(r"\]\(([^):#]+)\)", text)
    folders = "api|services|sd_client|state|storage|observability|tests|docs|tools|examples"
    named += re.findall(rf"`((?:{folders})/[\w./]*)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_llms_txt_has_the_conventions_form() -> None:
    title, summary, *sections = re.split(r"\n\n(?=> |## )", read("llms.txt").strip())
    assert re.fullmatch(r"# .+", title)
    assert re.match(r"> .+", summary)
    for section in sections:
        heading, *lines = [line for line in section.splitlines() if line]
        assert heading.startswith("## ")
        assert [line for line in lines if not re.fullmatch(r"- \[[^]]+\]\([^)]+\): .+", line)] == []


def commands(page: str) -> str:
    """What a reader types, page by page in one terminal, but for what starts servers."""
    blocks = re.findall(r"^```sh\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if not any(_STARTING.match(line) for line in block.splitlines()))


@pytest.mark.parametrize("page", TYPED)
def test_what_a_reader_types_works(page: str, service: Service, tmp_path: Path) -> None:
    if not (shutil.which("curl") and shutil.which("bash") and shutil.which("openssl")):
        pytest.skip("needs bash, curl and openssl")
    script = commands(page).replace("http://localhost:5002", service.root)
    assert "curl" in script
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "docs").symlink_to(DOCS)
    shutil.copy(ROOT / "examples" / "samples" / "person.jpg", tmp_path / "me.jpg")
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=environment({"SERVICE": service.root, "API_KEY": ""}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = re.findall(r"-o (\S+\.(?:png|webp|jpg))", script)
    assert named or page.endswith(("following.md", "resuming.md"))
    for name in named:
        with Image.open(tmp_path / name) as image:
            image.load()
