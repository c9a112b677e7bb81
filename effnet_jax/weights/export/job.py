"""What every format's writer is given."""

import dataclasses
from typing import Any

import numpy as np

from effnet_jax import errors
from effnet_jax.inference import network
from effnet_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class Job:
  """One network to write.

  A writer is a function (job, path): it writes a file or folder of exactly that
  name, in a folder that is empty. What it puts beside it travels along where
  `targets` knows its ending.

  Attributes:
    spec: the network; `spec.resolution` is the side of its input.
    folded: weights from `network.fold`, float32.
    dtype: of weights and activations: `float32`, `bfloat16` or `float16`.
      Inputs and outputs are float32 (or uint8) whatever it is.
    preprocess: takes uint8 pixels [n, side, side, 3] and gives probabilities;
      otherwise takes normalised images and gives logits.
    quantize: None or `int8`.
    calibrate: uint8 crops [n, side, side, 3] that fix the ranges of `quantize`.
    metadata: what the reader should know, JSON values only.
  """

  spec: ModelSpec
  folded: network.Weights
  dtype: str = 'float32'
  preprocess: bool = False
  quantize: str | None = None
  calibrate: np.ndarray | None = None
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

  def outputs(self, images: Any, ops: network.Operations) -> Any:
    """Logits of images, or with `preprocess` probabilities of pixels."""
    if self.preprocess:
      return network.probabilities(self.spec, self.folded, images, ops)
    return network.forward(self.spec, self.folded, images, ops)[0]

  def check_dtype(self, format: str, known: tuple[str, ...]) -> None:
    """Raises UserError for a dtype that the format has no room for."""
    if self.dtype not in known:
      raise errors.UserError(
        f'{format} takes {" or ".join(known)}, not {self.dtype}'
      )
