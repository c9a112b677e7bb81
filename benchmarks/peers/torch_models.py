"""What the peers in PyTorch share: weights in, files, endpoints out."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import safetensors.torch
import seeded
import torch

FORMATS = ('.safetensors', '.pth')


def write(model: torch.nn.Module, seed: int, path: Path) -> None:
  """Saves seeded weights under the names of the model's own state dict."""
  state = {
    key: torch.from_numpy(np.asarray(seeded.array(seed, key, tuple(t.shape))))
    for key, t in model.state_dict().items()
  }
  model.load_state_dict(state)  # strict: the peer takes what it is given
  if Path(path).suffix == '.safetensors':
    safetensors.torch.save_file(model.state_dict(), path)
  else:
    torch.save(model.state_dict(), path)


def read(model: torch.nn.Module, path: Path) -> torch.nn.Module:
  """Loads a file strictly."""
  if Path(path).suffix == '.safetensors':
    state = safetensors.torch.load_file(path)
  else:
    state = torch.load(path, weights_only=True)
  model.load_state_dict(state)
  return model


def outputs(
  model: torch.nn.Module,
  images: np.ndarray,
  stem: torch.nn.Module,
  blocks: Iterable[torch.nn.Module],
  head: torch.nn.Module,
  pooling: torch.nn.Module,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Runs a model in evaluation mode and records what the modules return.

  A module that is called several times, such as a shared activation, counts as
  the stem with its first call and as the head with its last.
  """
  endpoints: dict[str, np.ndarray] = {}

  def record(name: str, keep_first: bool = False) -> Callable:
    def hook(module, inputs, output):
      if not (keep_first and name in endpoints):
        # A copy: what follows may work in place.
        endpoints[name] = to_nhwc(output)

    return hook

  handles = [stem.register_forward_hook(record('stem', keep_first=True))]
  handles += [
    block.register_forward_hook(record(f'block_{i}'))
    for i, block in enumerate(blocks)
  ]
  handles.append(head.register_forward_hook(record('head')))
  handles.append(pooling.register_forward_hook(record('pooled_features')))
  model.eval()
  with torch.inference_mode():
    logits = model(to_nchw(images)).numpy()
  for handle in handles:
    handle.remove()
  pooled = endpoints['pooled_features']
  endpoints['pooled_features'] = pooled.reshape(len(pooled), -1)
  return logits, endpoints


def to_nchw(images: np.ndarray) -> torch.Tensor:
  return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def to_nhwc(maps: torch.Tensor) -> np.ndarray:
  array = maps.detach().numpy()
  return array.transpose(0, 2, 3, 1).copy() if array.ndim == 4 else array.copy()
