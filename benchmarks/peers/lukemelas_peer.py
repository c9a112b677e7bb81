"""efficientnet_pytorch by lukemelas, with TensorFlow's padding and epsilon.

The padding is worked out for one size of images when the network is built.
"""

from pathlib import Path

import efficientnet_pytorch
import numpy as np
import torch

from peers import torch_models

FORMATS = torch_models.FORMATS


def model_name(network: str, variant: str) -> str:
  return variant


def create(network: str, **arguments) -> torch.nn.Module:
  return efficientnet_pytorch.EfficientNet.from_name(network, **arguments)


def write(network: str, seed: int, path: Path) -> None:
  torch_models.write(create(network), seed, path)


def outputs(
  network: str, path: Path, images: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  model = create(network, image_size=images.shape[1])
  model = torch_models.read(model, path)
  return torch_models.outputs(
    model,
    images,
    # One activation after the stem and after the head; blocks have their own.
    stem=model._swish,
    blocks=model._blocks,
    head=model._swish,
    pooling=model._avg_pooling,
  )
