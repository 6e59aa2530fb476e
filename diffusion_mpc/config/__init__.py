"""The only description of parameters.

Type, default, unit, bounds, meaning, and whether one may change while its node runs.

The ROS nodes declare from it, the command line checks against it, and `config/ant.yaml` of the
package is written by it.
"""

from diffusion_mpc.config.nodes import (
    MODEL_FILE,
    NODES,
    ROS_OWN,
    SIM,
    cost_weights,
    load_parameters,
    model_file,
    own_parameters,
    parameters,
    split_sim,
)
from diffusion_mpc.config.parameter import (
    ConfigError,
    Parameter,
    Value,
    build,
    check,
    fields,
    require_parameter,
)
from diffusion_mpc.config.planner_parameters import (
    CommandConfig,
    GoalConfig,
    InputConfig,
    JointGains,
    ObjectsConfig,
    OutputConfig,
    PlannerNodeConfig,
    RealtimeConfig,
)
from diffusion_mpc.config.recorder_parameters import RecorderConfig
from diffusion_mpc.config.search_parameters import (
    BackendConfig,
    ModelConfig,
    PolicyConfig,
    RobustConfig,
    SearchConfig,
)
from diffusion_mpc.config.sim_parameters import (
    NoiseConfig,
    PlantModelConfig,
    PushConfig,
    SimConfig,
)
from diffusion_mpc.config.viewer_parameters import ViewerConfig
from diffusion_mpc.config.yaml_files import (
    read_parameter_file,
    reference_yaml,
    shared_names,
    write_parameter_file,
)

__all__ = [
    "MODEL_FILE",
    "NODES",
    "ROS_OWN",
    "SIM",
    "BackendConfig",
    "CommandConfig",
    "ConfigError",
    "GoalConfig",
    "InputConfig",
    "JointGains",
    "ModelConfig",
    "NoiseConfig",
    "ObjectsConfig",
    "OutputConfig",
    "Parameter",
    "PlannerNodeConfig",
    "PlantModelConfig",
    "PolicyConfig",
    "PushConfig",
    "RealtimeConfig",
    "RecorderConfig",
    "RobustConfig",
    "SearchConfig",
    "SimConfig",
    "Value",
    "ViewerConfig",
    "build",
    "check",
    "cost_weights",
    "fields",
    "load_parameters",
    "model_file",
    "own_parameters",
    "parameters",
    "read_parameter_file",
    "reference_yaml",
    "require_parameter",
    "shared_names",
    "split_sim",
    "write_parameter_file",
]
