"""One word for one thing, the field's.

Words that were given up are in no name, docstring or parameter text.
"""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import diffusion_mpc
from diffusion_mpc.config import NODES, parameters
from diffusion_mpc.tasks import available_tasks, find_task

PACKAGE = Path(diffusion_mpc.__file__).parent
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if "msg" not in path.relative_to(PACKAGE).parts
)

# Former parameters are named where their users are told the new ones.
FORMER = PACKAGE / "config" / "renamed.py"

WORDS = {
    "mirrored": "antithetic",
    "share": "fraction",
    "shares": "fractions",
    "succession": "ControllerSwap",
    "setback": "StagnationDetector",
    "takeover": "blend_time",
    "held": "constant_control",
    "plain": "without_gains",
    "driven": "actuators",
    "spread": "noise_scale",
}
"""Words that are in no name, and what is said instead."""

WHOLE = {
    "track": "planned_states",
    "Cell": "Run",
    "Choice": "ChosenBackend",
    "Schedule": "CommandHistory",
    "Start": "StateTensors",
    "Target": "ReferenceTensors",
    "Track": "PlannedStates",
}
"""Whole names that are not given."""

PHRASES = {
    r"\bmirrored\b": "antithetic",
    r"\b[Tt]akeover\b": "blend",
    r"\b[Tt]he plan before\b": "the previous plan",
    r"\bCUDA graphs? (is|are) recorded\b": "captured",
    r"\bcame to\b.*\.$": "say what it is",
    r"\b[Ss]hares? of\b": "fraction of",
}
"""What no docstring and no text of a parameter has."""

ALLOWED = {
    ("tasks/humanoid_run.py", "track"),  # a cost term, whose weight users type
    ("evaluation/video.py", "track"),  # rich's
    ("cli/bag_commands.py", "track"),
    ("ros/recorder_node.py", "get_package_share_directory"),  # ament's
    ("tasks/urdf.py", "get_package_share_directory"),
    ("live/page.py", "request_share_url"),  # viser's
    ("live/page.py", "show_share_button"),
}


def names(tree):
    """Names that a file gives or uses."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.Attribute(attr=name)
                | ast.arg(arg=name)
                | ast.Name(id=name)
            ):
                yield name
            case ast.alias(name=name) | ast.keyword(arg=str(name)):
                yield name


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield text


def ident(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_names_have_the_words_of_the_field(path):
    found = set(names(ast.parse(path.read_text())))
    words = {
        name: set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_")) for name in found
    }
    wrong = {
        f"{name}: {WORDS[word]}"
        for name, parts in words.items()
        for word in parts & set(WORDS)
        if (ident(path), name) not in ALLOWED
    }
    wrong |= {
        f"{name}: {WHOLE[name]}"
        for name in found & set(WHOLE)
        if (ident(path), name) not in ALLOWED
    }
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_docstrings_have_the_words_of_the_field(path):
    if path == FORMER:
        return
    texts = list(docstrings(ast.parse(path.read_text())))
    assert not {
        f"{text!r}: {better}"
        for text in texts
        for old, better in PHRASES.items()
        if re.search(old, text)
    }


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_a_docstring_begins_with_a_noun_or_an_imperative(path):
    firsts = [text.splitlines()[0] for text in docstrings(ast.parse(path.read_text()))]
    assert not [first for first in firsts if re.match(r"(What|How|Who|Where|Why|When)\b", first)]


@pytest.mark.parametrize("node", NODES)
def test_texts_of_parameters_have_the_words_of_the_field(node):
    tasks = [find_task(name) for name in available_tasks()] if node != "recorder" else [None]
    known = {
        p.name: p.description for task in tasks for p in parameters(NODES[node], task).values()
    }
    wrong = {name for name in known if set(re.split(r"[._]", name)) & set(WORDS)}
    wrong |= {text for text in known.values() for old in PHRASES if re.search(old, text)}
    assert not wrong


def test_no_two_files_or_classes_have_the_same_name_nor_one_of_the_standard_library():
    counts = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert not {name for name, count in counts.items() if count > 1}
    # types.py shadows nothing: it is only ever imported as diffusion_mpc.types.
    assert {path.stem for path in FILES} & set(sys.stdlib_module_names) <= {"types"}
    classes = Counter(
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in classes.items() if count > 1}
