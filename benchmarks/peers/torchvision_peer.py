"""torchvision.

Padding is symmetric. B0 to B4 have epsilon 1e-5, B5 to B7 and V2 have 1e-3.
"""

from pathlib import Path

import numpy as np
import torch
from torchvision import models

from peers import torch_models

FORMATS = torch_models.FORMATS


def model_name(network: str, variant: str) -> str:
  return variant


def create(network: str) -> torch.nn.Module:
  return models.get_model(network, weights=None)


def write(network: str, seed: int, path: Path) -> None:
  torch_models.write(create(network), seed, path)


def outputs(
  network: str, path: Path, images: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  model = torch_models.read(create(network), path)
  stem, *stages, head = model.features
  return torch_models.outputs(
    model,
    images,
    stem=stem,
    blocks=[block for stage in stages for block in stage],
    head=head,
    pooling=model.avgpool,
  )
