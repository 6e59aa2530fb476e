"""A model as one text with its files: as it goes into a bag, and as it comes out again."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from diffusion_mpc.bags.bag_reader import BagError
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.model_file import ModelFile, read_spec
from diffusion_mpc.versions import model_hash

LARGEST = 32 * 2**20
"""Files of a model go along as long as they are no larger than this together, bytes."""


def model_text(task: Task) -> str:
    """A task's model file as JSON.

    `mjcf`: the MJCF as MuJoCo saves it, with the actuators that were added; `sha256`: `model_hash`
    of the model that the task made of it; `files`: meshes, textures and height fields by the names
    that the MJCF has for them, compressed by zlib, in base64.
    """
    spec = read_spec(task.path, task.file.actuators)
    root = ElementTree.fromstring(spec.to_xml())
    files: dict[str, bytes] = {}
    names: dict[Path, str] = {}
    folders = _take_folders(root)
    for element, attribute in _file_attributes(root):
        path = (
            task.path.parent / folders.get(element.tag, folders["mesh"]) / element.attrib[attribute]
        ).absolute()
        content = path.read_bytes() if path.is_file() else None
        if content is None or sum(map(len, files.values())) + len(content) > LARGEST:
            element.set(attribute, str(path))
            continue
        name = names.setdefault(path, f"{len(names)}{path.suffix}")
        files[name] = content
        element.set(attribute, name)
    return json.dumps(
        {
            "mjcf": ElementTree.tostring(root, encoding="unicode"),
            "sha256": model_hash(task.model),
            "files": {
                name: base64.b64encode(zlib.compress(content)).decode()
                for name, content in files.items()
            },
        }
    )


def write_model(text: str, folder: Path) -> ModelFile:
    """Write the model of `model_text` and its files to a folder.

    Raises:
        BagError: a file that the model needs is neither in the bag nor on this machine
    """
    record = json.loads(text)
    for name, content in record["files"].items():
        (folder / Path(name).name).write_bytes(zlib.decompress(base64.b64decode(content)))
    for element, attribute in _file_attributes(ElementTree.fromstring(record["mjcf"])):
        file = folder / element.attrib[attribute]
        if not file.is_file():
            raise BagError(
                f"the run's model needs '{file}', which is neither in the bag nor on this machine; "
                "put it there, or name the task: --task"
            )
    path = folder / "model.xml"
    path.write_text(record["mjcf"], encoding="utf-8")
    return ModelFile(str(path))


def _take_folders(root: ElementTree.Element) -> dict[str, str]:
    """Remove the folders of the model's files from the compiler's settings; folders by element."""
    folders = {"mesh": "", "texture": ""}
    for compiler in root.iter("compiler"):
        for kind in folders:
            folders[kind] = compiler.attrib.pop(f"{kind}dir", folders[kind])
    return folders


def _file_attributes(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str]]:
    for asset in root.iter("asset"):
        for element in asset:
            for attribute in element.attrib:
                if attribute.startswith("file"):
                    yield element, attribute
