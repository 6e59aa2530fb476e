"""Models that differ from a given one as real robots differ from theirs.

In mass, friction and actuator gain.
"""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from diffusion_mpc.config import RobustConfig


def perturbed(model: mujoco.MjModel, mass: float, friction: float, gain: float) -> mujoco.MjModel:
    """A copy of the model with its quantities scaled.

    Args:
        model: MuJoCo model
        mass: factor of all masses and inertias
        friction: factor of the sliding friction of all geoms
        gain: factor of all actuator gains; a servo's stiffness and damping scale with it
    """
    changed = copy.copy(model)
    changed.body_mass *= mass
    changed.body_inertia *= mass
    changed.geom_friction[:, 0] *= friction
    changed.actuator_gainprm[:, 0] *= gain
    changed.actuator_biasprm[:, :3] *= gain
    # Derived constants, such as inverse weights, follow the masses.
    mujoco.mj_setConst(changed, mujoco.MjData(changed))
    return changed


def model_variants(model: mujoco.MjModel, config: RobustConfig) -> list[mujoco.MjModel]:
    """The given model first, then `config.models - 1` perturbed ones.

    Factors are uniform, and the same for the same seed.
    """
    random = np.random.default_rng(config.seed)
    reach = np.array([config.mass, config.friction, config.gain])
    factors = 1.0 + reach * random.uniform(-1.0, 1.0, (config.models - 1, 3))
    return [model, *(perturbed(model, *row) for row in factors.tolist())]
