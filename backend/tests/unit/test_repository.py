"""The repository as a newcomer finds it: it stands alone, and what its pages say is there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Written so that no expression finds itself in this file.
REGISTRY = re.compile(
    r"https?://[^ \"']+/(?:simple|packages|debian)/|--(?:extra-)?index-url\b"
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com|deb\.debian\.org"
)
MACHINE_PATH = re.compile(r"(?:^|[^\w.~$})-])/(?:work|farm|root|Users)/")
OUTSIDE = re.compile(r"\.\./" + "shared")
MARKDOWN_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def tracked_files() -> list[Path]:
    # The clone may belong to somebody else (a mounted folder, a build machine); reading its list is harmless.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip(f"This is not a git clone: {listed.stderr.decode().strip()}")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((path, content.decode(errors="replace")))
    return found


def where(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:160]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def pages() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """The names that the headings of a page have as link targets."""
    prose = FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ +(.*?)\s*$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(link: str, page: Path, root: Path) -> bool:
    """Whether a link in a page has a target inside the repository; addresses on the web are not tried."""
    if re.match(r"[a-z]+:", link):
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_relative_to(root) or not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    links = [match[1] or match[2] for match in MARKDOWN_LINK.finditer(FENCED.sub("", page.read_text()))]
    return [link for link in links if not leads_somewhere(link, page, root)]


def makefile_targets() -> dict[str, str]:
    """Each target that stands in the Makefile, with its line of help (or nothing)."""
    lines = re.findall(r"^([a-z][a-z-]*):(?!=)[^#\n]*(?:## (.*))?$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(lines)


def test_nothing_names_a_package_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    assert where(REGISTRY) == []


def test_nothing_names_a_path_of_one_machine() -> None:
    assert where(MACHINE_PATH) == []


def test_nothing_reaches_outside_the_repository() -> None:
    assert where(OUTSIDE) == []


@pytest.mark.parametrize("lock", ["bootstrap", "run", "dev"])
def test_locks_pin_every_package_by_hash_and_name_no_address(lock: str) -> None:
    text = (ROOT / "backend/requirements" / f"{lock}.txt").read_text()
    # A requirement and its continuation lines are one entry.
    entries = [e for e in text.replace("\\\n", " ").splitlines() if e.strip() and not e.lstrip().startswith("#")]
    assert entries
    assert [
        e for e in entries if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+ ", e) or "--hash=sha256:" not in e
    ] == []
    assert "://" not in text


def test_the_smaller_lock_is_part_of_the_larger_one() -> None:
    """A run and the tests must never see different versions."""

    def pinned(lock: str) -> set[str]:
        text = (ROOT / "backend/requirements" / f"{lock}.txt").read_text()
        return {match[0].strip(" \\") for match in re.finditer(r"^[a-z0-9].*$", text, re.MULTILINE)}

    assert pinned("run") <= pinned("dev")


def test_node_locks_carry_no_download_address() -> None:
    for path in tracked_files():
        if path.name == "package-lock.json":
            assert '"resolved"' not in path.read_text(), path


def test_no_large_file_is_tracked() -> None:
    """Media and other large things are made when they are needed."""
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in tracked_files()
        if path.stat().st_size > 200 * 1024
        and path.name != "package-lock.json"
        and path.parent != ROOT / "backend/requirements"
    }
    assert large == {}


def test_links_between_pages_lead_somewhere() -> None:
    broken = {str(page.relative_to(ROOT)): links for page in pages() if (links := broken_links(page))}
    assert broken == {}


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The other page, (really)\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#the-other-page-really) [c](#here) [d](https://example.org/gone)\n"
        "```\n[in code](nowhere.md)\n```\n[e](missing.md) [f](other.md#missing) [g](../outside.md)\n"
    )
    assert broken_links(page, tmp_path) == ["missing.md", "other.md#missing", "../outside.md"]


def test_every_page_in_docs_can_be_found_from_its_index() -> None:
    docs = ROOT / "docs"
    reached: set[Path] = set()
    to_read = [docs / "README.md"]
    while to_read:
        page = to_read.pop()
        if page in reached:
            continue
        reached.add(page)
        for match in MARKDOWN_LINK.finditer(page.read_text()):
            target = (page.parent / (match[1] or match[2]).partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_relative_to(docs) and target.exists():
                to_read.append(target)
    lost = [str(page.relative_to(ROOT)) for page in pages() if page.is_relative_to(docs) and page not in reached]
    assert lost == []


def test_make_help_lists_every_target() -> None:
    targets = makefile_targets()
    steps = {"environment", "environment-run"}  # what other targets need first
    assert {name for name, line in targets.items() if not line} == steps
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make ([a-z-]+) +(.+)$", printed, re.MULTILINE) == [
        (name, line) for name, line in targets.items() if name not in steps
    ]


def test_a_run_without_settings_says_what_to_copy_before_anything_is_installed(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    run = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "copy backend/.env.example" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_pages_name_only_make_targets_that_exist() -> None:
    named = {
        (str(page.relative_to(ROOT)), target)
        for page in pages()
        for target in re.findall(r"`make ([a-z-]+)", page.read_text())
        + re.findall(r"^make ([a-z-]+)", page.read_text(), re.M)
    }
    assert {(page, target) for page, target in named if target not in makefile_targets()} == set()


def test_the_map_of_the_code_shows_the_layers_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "backend/pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    checked = [set(re.findall(r"\w+", layer)) for layer in layers]
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = re.search(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert drawn is not None
    rows = [set(re.findall(r"\w+", row.partition("  ")[0])) for row in drawn[1].splitlines() if row.strip("↓ ")]
    assert rows == checked


def test_the_map_of_the_code_names_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    packages = {
        path.parent.name
        for path in tracked_files()
        if path.name == "__init__.py" and path.parent.parent == ROOT / "backend/src/vodkeep"
    }
    assert {name for name in packages if f"`{name}`" not in page} == set()


def test_scripts_may_be_run_and_read_as_shell() -> None:
    scripts = {path: path.read_bytes() for path in tracked_files() if path.parent in {ROOT / ".ci", ROOT / "tools"}}
    shells = {
        path: text.splitlines()[0].decode().split("/")[-1].split()[-1]
        for path, text in scripts.items()
        if text.startswith(b"#!")
    }
    assert ROOT / ".ci/run" in shells
    for script, shell in shells.items():
        assert script.stat().st_mode & 0o111 == 0o111, script
        read = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), script
