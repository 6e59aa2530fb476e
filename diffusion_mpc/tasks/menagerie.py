"""Robots of MuJoCo Menagerie by their names, as far as they are on this machine.

Nothing is downloaded: a model is taken from a checkout, or from what the package
`mujoco-menagerie` has in its cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from diffusion_mpc.names import hint
from diffusion_mpc.tasks.errors import TaskError

PREFIX = "menagerie:"
"""Begins the path of a model that is looked for here: `menagerie:NAME` or `menagerie:NAME/FILE`."""

ROOT = "MENAGERIE_ROOT"
"""Environment variable that names a checkout; the package knows it by the same name."""

SCENE = "scene.xml"


def find_robot(robot: str) -> Path:
    """MJCF of a robot, with a floor where Menagerie has it so.

    Args:
        robot: name of its folder, such as `unitree_go2`, and one of the files in there where it is
            not to be the scene, such as `unitree_go2/go2.xml`

    Raises:
        TaskError: it is not on this machine; the message says how to get it
    """
    name, _, file = robot.partition("/")
    root = os.environ.get(ROOT)
    folder, preferred = _in_checkout(name, Path(root)) if root else _in_cache(name)
    if file:
        return folder / file
    stems = [name, name.partition("_")[2]]
    for candidate in (SCENE, *preferred, *(f"{stem}.xml" for stem in stems if stem)):
        if (folder / candidate).is_file():
            return folder / candidate
    found = sorted(path.name for path in folder.glob("*.xml"))
    raise TaskError(
        f"'{folder}' has neither {SCENE} nor {name}.xml; write {PREFIX}{name}/FILE with one of "
        f"{', '.join(found) or 'its files'}"
    )


def _in_checkout(name: str, root: Path) -> tuple[Path, Iterable[str]]:
    if not (root / name).is_dir():
        known = [path.name for path in root.glob("*") if any(path.glob("*.xml"))]
        raise TaskError(f"{ROOT} is '{root}', which has no robot '{name}'; {hint(name, known)}")
    return root / name, ()


def _in_cache(name: str) -> tuple[Path, Iterable[str]]:
    try:
        import mujoco_menagerie
    except ImportError:
        raise TaskError(
            f"'{PREFIX}{name}' needs MuJoCo Menagerie: set {ROOT} to a checkout of it, or pip "
            f"install 'diffusion_mpc[menagerie]' and then run: mujoco-menagerie prefetch {name}"
        ) from None
    known = mujoco_menagerie.names()
    if name not in known:
        raise TaskError(f"MuJoCo Menagerie has no robot '{name}'; {hint(name, known)}")
    robot, cache = mujoco_menagerie.get(name), mujoco_menagerie.Cache()
    if not cache.is_cached(robot):
        raise TaskError(
            f"'{PREFIX}{name}' is not in the cache of mujoco-menagerie; run: mujoco-menagerie "
            f"prefetch {name}"
        )
    return cache.model_path(robot), (robot.entry().file,)
