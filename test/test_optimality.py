"""Labels and weights from advantages against values worked out by hand."""

import math

import pytest
import torch

from diffusion_mpc.policy.optimality import advantage_weights, optimality


def test_rows_that_are_better_than_their_like_have_the_label():
    label = optimality(torch.tensor([0.5, 0.0, -2.0]))

    assert label.tolist() == [[1.0], [0.0], [0.0]]


def test_weights_of_regression_grow_with_the_advantage_up_to_a_limit():
    found = advantage_weights(torch.tensor([-1.0, 0.0, 0.5, 100.0]), 0.5, 5.0)

    expected = torch.tensor([math.exp(-2.0), 1.0, math.e, 5.0])
    torch.testing.assert_close(found, expected)


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="choose one above 0"):
        advantage_weights(torch.zeros(1), 0.0)
