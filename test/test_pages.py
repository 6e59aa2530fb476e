"""The pages: links that lead somewhere, tables as written today, hooks that can be read."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from diffusion_mpc.config import NODES, parameters
from diffusion_mpc.tasks import available_tasks

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^(```+).*?^\1\s*?$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@cache
def prose(page):
    """Text of a page without its blocks of code."""
    return FENCED.sub("", page.read_text())


@cache
def anchors(page):
    """What GitHub calls the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ +(.*?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = base = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found


def broken(page):
    """Links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and (target.suffix != ".md" or anchor not in anchors(target))
        ):
            found.append(link)
    return found


def ident(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_links_lead_somewhere(page):
    assert broken(page) == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text(
        "# The *first*, `a.b`\n\n```sh\n# no heading\n```\n\n## Twice\n\n## Twice\n"
    )
    links = [
        "other.md#the-first-ab",
        "other.md#twice-1",
        "#here",
        "https://example.org/x",
        "other.md",
    ]
    wrong = ["missing.md", "other.md#no-heading", "other.md#twice-2", "#there"]
    page.write_text(
        "# Here\n\n" + "\n".join(f"[x]({link})" for link in links + wrong) + "\n\n`[x](code)`\n"
    )
    assert broken(page) == wrong


def test_tables_of_defaults_are_as_they_would_be_written_today():
    """Written by `./dmpc exec python docs/write_defaults.py`."""
    spec = importlib.util.spec_from_file_location(
        "write_defaults", ROOT / "docs" / "write_defaults.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "README.md").read_text()
    assert module.written(text) == text


def test_hooks_are_local_and_run_what_the_tests_run():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    entries = [hook["entry"] for hook in hooks["repos"][0]["hooks"]]
    assert [entry.split()[:2] for entry in entries] == [["./dmpc", "exec"]] * len(entries)


ELSEWHERE = {"run/", "lto/"}
"""Folders that pages name and that are not of this repository: those of a run, of a cache."""


def missing_paths(page):
    """Files and folders that a page names in backticks and that are nowhere."""
    words = [
        word.rstrip(",.;:")
        for text in re.findall(r"`([^`\n]+)`", prose(page))
        for word in text.split()
    ]
    named = [
        word
        for word in words
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/([\w-]+\.(py|md|yaml|csv|msg))?", word)
    ]
    folders = (ROOT, ROOT / "diffusion_mpc", page.parent)
    return [
        path
        for path in named
        if path not in ELSEWHERE and not any((folder / path).exists() for folder in folders)
    ]


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_paths_are_those_of_files(page):
    assert missing_paths(page) == []


NO_PARAMETERS = {"cost.calm", "planner.launch.py", "planner.rviz"}
"""Names that look like those of parameters: a term of an example, and files."""


@cache
def known_parameters():
    """Names that users type, of all tasks, those of the simulation with and without `sim.`."""
    planner = {
        name for task in available_tasks().values() for name in parameters(NODES["planner"], task)
    }
    sim = set(parameters(NODES["sim"]))
    return planner | sim | {f"sim.{name}" for name in sim}


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_parameters_are_there(page):
    known = known_parameters() | NO_PARAMETERS
    groups = {name.split(".")[0] for name in known if "." in name}
    named = re.findall(r"`(?:--set )?([a-z]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", prose(page))
    assert [name for name in named if name.split(".")[0] in groups and name not in known] == []
