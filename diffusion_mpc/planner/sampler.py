"""Gaussian knots around a mean, and the noise that they are made of."""

from __future__ import annotations

import torch


def draw_noise(
    steps: int,
    num_samples: int,
    like: torch.Tensor,
    generator: torch.Generator,
    antithetic: bool = False,
) -> torch.Tensor:
    """Standard normal noise of a whole search.

    The first row is zero, so that it stands for the mean itself.

    Drawn at once, before the search: what a search does afterwards depends on its inputs alone.

    Args:
        steps: number of denoising steps
        num_samples: number of rows
        like: (num_knots, nu) tensor that gives shape, type and device
        generator: source of randomness
        antithetic: draw noise in pairs of opposite sign, so that it averages to zero whatever the
            number of samples

    Returns:
        (steps, num_samples, num_knots, nu)
    """
    drawn = num_samples // 2 if antithetic else num_samples - 1
    noise = torch.randn(
        (steps, drawn, *like.shape), generator=generator, dtype=like.dtype, device=like.device
    )
    parts = (noise.new_zeros((steps, 1, *like.shape)), noise, -noise[:, : num_samples - 1 - drawn])
    return torch.cat(parts if antithetic else parts[:2], dim=1)


class NoiseSource:
    """Noise of one search after the other from one generator.

    That of the next search can be drawn ahead.
    """

    def __init__(self, like: torch.Tensor) -> None:
        """Take a tensor (num_knots, nu) that gives shape, type and device; `seed` comes first."""
        self._like = like
        self._generator = torch.Generator(like.device)
        self._sizes: tuple[int, int, bool] | None = None
        self._ahead: torch.Tensor | None = None

    def seed(self, seed: int) -> None:
        """Begin the random sequence anew."""
        self._generator.manual_seed(seed)
        self._sizes = self._ahead = None

    def take(self, steps: int, num_samples: int, antithetic: bool) -> torch.Tensor:
        """Noise of the next search, see `draw_noise`.

        What was drawn ahead of another size is thrown away.
        """
        sizes = (steps, num_samples, antithetic)
        if self._ahead is None or sizes != self._sizes:
            self._sizes = sizes
            self._ahead = self._draw(sizes)
        noise, self._ahead = self._ahead, None
        return noise

    def draw_ahead(self) -> None:
        """Draw the noise of the next search, if it is as large as that of the last one."""
        if self._sizes is not None and self._ahead is None:
            self._ahead = self._draw(self._sizes)

    def _draw(self, sizes: tuple[int, int, bool]) -> torch.Tensor:
        steps, num_samples, antithetic = sizes
        return draw_noise(steps, num_samples, self._like, self._generator, antithetic)


def sample_knots(mean: torch.Tensor, std: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Knots (num_samples, num_knots, nu) around the mean, clipped to [-1, 1].

    Args:
        mean: (num_knots, nu)
        std: standard deviation, broadcast against (num_knots, nu)
        noise: (num_samples, num_knots, nu) standard normal; see `draw_noise`
    """
    return torch.addcmul(mean, noise, std).clamp_(-1.0, 1.0)
