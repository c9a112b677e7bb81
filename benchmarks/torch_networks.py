"""Networks of torch: filled with `seeded` arrays, and written as ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
import seeded


def nchw(images: np.ndarray) -> np.ndarray:
  """[n, h, w, 3] -> [n, 3, h, w]."""
  return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def fill(network: Any, seed: int) -> None:
  """Gives a module weights under the names of its own state dict."""
  import torch

  network.load_state_dict(
    {
      key: torch.from_numpy(
        np.asarray(seeded.array(seed, key, tuple(tensor.shape)))
      )
      for key, tensor in network.state_dict().items()
    }
  )


def write_onnx(network: Any, images: np.ndarray, path: Path) -> None:
  """Writes a module for batches of the size of `images` [n, h, w, 3]."""
  import torch

  torch.onnx.export(
    network,
    (torch.from_numpy(nchw(images)),),
    path,
    input_names=['images'],
    output_names=['logits'],
    dynamo=False,
  )
