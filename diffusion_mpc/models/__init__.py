"""Our own MJCF models, one folder a robot."""

from pathlib import Path

MODELS = Path(__file__).parent
