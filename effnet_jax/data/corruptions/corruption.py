"""The kinds by their published names, and one of them as a data transform.

Definitions and constants are those of the authors' `imagenet_c` code
(github.com/hendrycks/robustness), but for `frost`: see weather.py. It was
written for crops of 224 pixels. Other sizes keep its lengths in pixels, unless
`scale` is given. Its published files are JPEGs of quality 85 besides, which
nothing here imitates.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from effnet_jax.data.corruptions import blur, digital, noise, weather
from effnet_jax.errors import UserError, near_names

SEVERITIES = (1, 2, 3, 4, 5)
PUBLISHED_SIDE = 224

_FUNCTIONS: tuple[Callable[..., np.ndarray], ...] = (
  noise.gaussian_noise,
  noise.shot_noise,
  noise.impulse_noise,
  blur.defocus_blur,
  blur.glass_blur,
  blur.motion_blur,
  blur.zoom_blur,
  weather.snow,
  weather.frost,
  weather.fog,
  weather.brightness,
  digital.contrast,
  digital.elastic_transform,
  digital.pixelate,
  digital.jpeg_compression,
)
_BY_NAME = {function.__name__: function for function in _FUNCTIONS}
KINDS = tuple(_BY_NAME)


def corrupt(
  rng: np.random.Generator,
  image: np.ndarray,
  kind: str,
  severity: int,
  scale: float = 1.0,
) -> np.ndarray:
  """Corrupts one image.

  Args:
    rng: of all that is drawn.
    image: uint8 [h, w, 3].
    kind: one of `KINDS`.
    severity: 1 to 5.
    scale: what lengths in pixels are multiplied by.

  Returns:
    uint8 [h, w, 3].

  Raises:
    UserError: no such kind or severity.
  """
  check(kind, severity)
  return _BY_NAME[kind](rng, image, severity, scale)


def check(kind: str, severity: int) -> None:
  """Raises UserError unless there is such a corruption."""
  if kind not in _BY_NAME:
    raise UserError(f'no corruption {kind!r}: {near_names(kind, KINDS)}')
  if severity not in SEVERITIES:
    raise UserError(f'severity {severity} of {kind}: it must be 1 to 5')


@dataclasses.dataclass(frozen=True)
class Corruption:
  """(index, uint8 [h, w, 3]) -> uint8 [h, w, 3], for the data pipeline.

  What is drawn depends on (seed, kind, severity, index) alone.

  Attributes:
    kind: one of `KINDS`.
    severity: 1 to 5.
    seed: 0 to 2^64 - 1.
    scaled: multiply lengths in pixels by (short side) / 224.
  """

  kind: str
  severity: int
  seed: int = 0
  scaled: bool = False

  def __post_init__(self):
    check(self.kind, self.severity)

  def __call__(self, index: int, image: np.ndarray) -> np.ndarray:
    which = KINDS.index(self.kind) * len(SEVERITIES) + self.severity
    key = np.array([self.seed, which], np.uint64)
    counter = np.array([0, 0, 0, index], np.uint64)  # draws count from below
    rng = np.random.Generator(np.random.Philox(key=key, counter=counter))
    scale = min(image.shape[:2]) / PUBLISHED_SIDE if self.scaled else 1.0
    return corrupt(rng, image, self.kind, self.severity, scale)
