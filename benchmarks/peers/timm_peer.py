"""timm (pytorch-image-models).

Its `tf_` networks are TensorFlow's, with SAME padding and epsilon 1e-3; the
others have symmetric padding and 1e-5. Both have the same keys. EdgeTPU's
stride is in the expansion, and its classes are 1000.
"""

from pathlib import Path

import numpy as np
import timm
import torch

from peers import torch_models

FORMATS = torch_models.FORMATS


def model_name(network: str, variant: str) -> str:
  return network  # it says how the network pads


def create(network: str, **arguments) -> torch.nn.Module:
  return timm.create_model(network, pretrained=False, **arguments)


def write(network: str, seed: int, path: Path) -> None:
  torch_models.write(create(network), seed, path)


def outputs(
  network: str, path: Path, images: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  model = torch_models.read(create(network), path)
  return torch_models.outputs(
    model,
    images,
    stem=model.bn1,  # with its activation
    blocks=[block for stage in model.blocks for block in stage],
    head=model.bn2,
    pooling=model.global_pool,
  )


def gradients(
  network: str, path: Path, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the gradient of the mean cross-entropy by the keys of the file.

  In training mode, so with the statistics of the batch; without dropout and
  stochastic depth.
  """
  model = create(network, drop_rate=0.0, drop_path_rate=0.0)
  model = torch_models.read(model, path).train()
  logits = model(torch_models.to_nchw(images))
  targets = torch.from_numpy(labels).long()
  torch.nn.functional.cross_entropy(logits, targets).backward()
  return {
    key: parameter.grad.numpy().copy()
    for key, parameter in model.named_parameters()
  }
