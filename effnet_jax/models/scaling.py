"""Rounding of widths and depths under compound scaling.

Compound scaling (EfficientNet, Eq. 3) multiplies depth, width and resolution by
alpha^phi, beta^phi and gamma^phi. A network has whole layers and channels that
suit the hardware, so every scaled number is rounded by the rules here.
"""

import math


def round_filters(
  filters: int,
  width: float,
  divisor: int = 8,
  min_filters: int | None = None,
  ninety_percent: bool = True,
) -> int:
  """Scales a number of channels by `width`, rounded to a multiple of `divisor`.

  Args:
    filters: channels of the baseline.
    width: the width coefficient; 1 still rounds.
    divisor: channels come in multiples of it.
    min_filters: lower bound, `divisor` where it is None.
    ninety_percent: adds one `divisor` where rounding down lost over 10 %. The
      published V1 checkpoints need it, the V2 ones need it off: B3's first
      stage is 24 channels wide with it (V1) and 16 without (V2).

  Returns:
    The number of channels of the scaled network.
  """
  scaled = filters * width
  rounded = max(
    min_filters or divisor, int(scaled + divisor / 2) // divisor * divisor
  )
  if ninety_percent and rounded < 0.9 * scaled:
    rounded += divisor
  return rounded


def round_repeats(repeats: int, depth: float) -> int:
  """Scales the layers of a stage by `depth`, rounded up.

  Rounding up makes plateaus: on B0 every depth in (1.00, 1.25] is one network.
  """
  return math.ceil(repeats * depth)
