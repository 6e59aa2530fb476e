"""Parameters of the viewer node, which serves the live page."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_mpc.config.parameter import param


@dataclass(frozen=True)
class ViewerConfig:
    """Parameters of the viewer node."""

    host: str = param(
        "127.0.0.1",
        "Address to serve the page at; one that other machines reach asks them for the token.",
    )
    port: int = param(
        8080, "Port of the page; the next free one where it is taken.", low=1024, high=65535
    )
    token: str = param(
        "",
        "Token that other machines have to give; empty: a new one at every start, which the log "
        "tells.",
    )
    recordings: str = param(
        "runs",
        "Folder for what is recorded from the page; each recording gets a folder in it, named by "
        "the time.",
    )
    scene_rate: float = param(
        15.0, "Pictures per second, while a page is open.", unit="Hz", low=1.0, high=30.0
    )
    history: float = param(20.0, "Time that the plots look back.", unit="s", low=5.0, high=300.0)
