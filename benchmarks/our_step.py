"""Our training step on random images, for what measures it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # configs
CLASSES = 1000


def examples(resolution: int, batch: int) -> dict[str, np.ndarray]:
  """Returns uint8 images and labels, the same in every process."""
  rng = np.random.default_rng(0)
  shape = (batch, resolution, resolution, 3)
  return {
    'image': rng.integers(0, 256, shape, np.uint8),
    'label': rng.integers(0, CLASSES, batch).astype(np.int32),
  }


def config_of(name: str, batch: int, **overrides: Any) -> Any:
  """Returns configs/base.py for a network, its fields replaced as said."""
  from configs import base

  made = base.get_config()
  made.batch_size = made.evaluation.batch_size = batch
  made.model.name = name
  made.model.overrides.update(overrides)
  made.data.num_classes, made.data.train_examples = CLASSES, 1000 * batch
  return made


def start(
  config: Any, resolution: int, devices: Sequence | None = None
) -> tuple[Any, Any, Any]:
  """Returns program, state and images of a config; the latter on devices."""
  import effnet_jax
  from effnet_jax.training import parallel

  program = effnet_jax.build(config, devices)
  state = parallel.replicate(program.init(), program.devices)
  images = parallel.shard(
    examples(resolution, config.batch_size), program.devices
  )
  return program, state, images


def compiled_in(cache: str) -> dict[str, str]:
  """Returns the environment of processes that compile for each other."""
  return {
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
