"""The pip build: the library and the command line, with no ROS. CMakeLists.txt is the ROS build."""

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import find_packages, setup

# package.xml is where ROS tools write the version, so it is written there only.
VERSION = ET.parse(Path(__file__).with_name("package.xml")).getroot().findtext("version")

setup(
    name="diffusion_mpc",
    version=VERSION,
    description="Online, diffusion-based model predictive control on MuJoCo",
    license="Apache-2.0",
    author="diffusion_mpc maintainers",
    author_email="maintainers@example.org",
    python_requires=">=3.11",
    packages=find_packages(include=["diffusion_mpc*"]),
    package_data={
        "diffusion_mpc": [
            "py.typed",
            "benchmark/tuned.yaml",
            "evaluation/pages/*",
            "models/**/*.xml",
            "models/**/*.csv",
            "policy/shipped/*.safetensors",
        ]
    },
    # Ranges that should work, for use beside other packages; requirements/ holds the versions that
    # are tested.
    install_requires=[
        "cma>=4.0",
        "cyclopts>=5.0",
        "imageio-ffmpeg",
        "jinja2>=3.1",
        "matplotlib>=3.6",
        "mcap>=1.6",
        "mujoco>=4.0",
        "numpy>=1.26",
        "optuna>=4.0",
        "pandas>=2.1",
        "pillow",
        "psutil>=5.9",
        "pyyaml>=6.0",
        "rich>=13.0",
        "rosbags>=0.11",
        "safetensors>=0.4",
        "scipy>=1.11",
        "torch>=2.2",
    ],
    extras_require={
        "bo": ["botorch>=0.12"],
        "learning": ["minari", "ray", "tensorboard"],
        "menagerie": ["mujoco-menagerie>=2026.10"],
        "page": ["mjviser>=0.0.14", "viser>=1.1"],
        "cuda": ["mujoco-warp>=4.0", "warp-lang>=1.15"],
        "test": [
            "hypothesis",
            "mujoco-warp>=4.0",
            "mypy",
            "pytest>=7.4",
            "pytest-rerunfailures",
            "pytest-timeout",
            "ray",
            "ruff",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["diffusion-mpc = diffusion_mpc.cli:main"]},
)
