"""Paths of the base in the plan and in the cheapest samples, for RViz and Foxglove."""

from __future__ import annotations

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from diffusion_mpc.ros.messages.stamps import to_stamp
from diffusion_mpc.types import Array, Plan

PLAN = ColorRGBA(r=0.1, g=0.7, b=0.2, a=1.0)
POLICY = ColorRGBA(r=0.7, g=0.2, b=0.8, a=1.0)
"""Color of a plan whose search went on from a policy's."""

TRACE = ColorRGBA(r=0.2, g=0.5, b=0.9, a=0.4)
LIFETIME = Duration(sec=1)


def marker_array(plan: Plan, base: slice, frame: str) -> MarkerArray:
    """Path of the cheapest sample as a line strip, those of `plan.traces` as one list of lines.

    The first is green, and purple where the search went on from a plan of the policy.

    Args:
        plan: plan of a robot whose base floats
        base: place of the base's position in qpos
        frame: frame of the positions
    """
    segments = [
        point
        for trace in plan.traces
        for pair in zip(trace[:-1, base], trace[1:, base], strict=True)
        for point in pair
    ]
    policy = plan.stats.policy
    color = POLICY if policy is not None and policy.rows and policy.weight > 0.5 else PLAN
    return MarkerArray(
        markers=[
            _marker(plan, frame, "plan", Marker.LINE_STRIP, 0.02, color, list(plan.path[:, base])),
            _marker(plan, frame, "traces", Marker.LINE_LIST, 0.005, TRACE, segments),
        ]
    )


def _marker(
    plan: Plan,
    frame: str,
    name: str,
    kind: int,
    width: float,
    color: ColorRGBA,
    points: list[Array],
) -> Marker:
    # A marker without points is an error to RViz: what was drawn before goes.
    marker = Marker(
        ns=name,
        type=kind,
        action=Marker.ADD if points else Marker.DELETE,
        color=color,
        lifetime=LIFETIME,
    )
    marker.header.frame_id, marker.header.stamp = frame, to_stamp(plan.start_time)
    marker.scale.x, marker.pose.orientation.w = width, 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in (point.tolist() for point in points)]
    return marker
