"""What `seeded` gives to timm's network of a name, as variables of ours."""

from typing import Any

import numpy as np
import seeded

from effnet_jax.models import efficientnet
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import copier
from effnet_jax.weights.layouts import pytorch


def of_timm(spec: ModelSpec, seed: int) -> dict[str, Any]:
  """Returns `params` and `batch_stats`; timm itself is not needed."""
  shapes = efficientnet.shapes(efficientnet.build(spec))
  entries, arrays = pytorch.TIMM.entries(spec), {}
  for entry in entries:
    leaf = shapes
    for key in entry.path:
      leaf = leaf[key]
    theirs = entry.transform.write(np.broadcast_to(np.float32(0), leaf.shape))
    arrays[entry.key] = seeded.array(seed, entry.key, theirs.shape)
  return copier.read(arrays, pytorch.TIMM, entries, shapes, spec.name)
