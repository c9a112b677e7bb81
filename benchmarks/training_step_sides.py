"""One side's training step, as a worker of training_step.py.

    python benchmarks/training_step_sides.py SIDE

SIDE is `ours`, `torch_eager` or `torch_compile`.
"""

import functools
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import interleaved
import our_step
import workers

# A step, and its loss as a number.
Step = tuple[Callable[[], Any], Callable[[], float]]


def ours(name: str, resolution: int, batch: int) -> tuple[Step, int]:
  """Returns the step of `effnet_jax.build`, and the number of parameters."""
  import jax

  config = our_step.config_of(name, batch, resolution=resolution)
  program, state, images = our_step.start(config, resolution)
  key, metrics = jax.random.key(config.seed), None

  def step():
    nonlocal state, metrics
    state, metrics = program.train_step(state, images, key)
    jax.block_until_ready((state, metrics))

  def loss():
    total, count = metrics['loss']
    return float(total) / float(count)

  return (step, loss), sum(x.size for x in jax.tree.leaves(state.params))


def _timm_network(name):
  """Returns timm's network: of `micro` by timm's own builder."""
  import timm
  from timm.layers import create_conv2d
  from timm.models import efficientnet

  arguments: dict[str, Any] = {'drop_rate': 0.2, 'drop_path_rate': 0.2}
  if name != 'micro':
    return timm.create_model(f'tf_efficientnet_{name}', **arguments)
  # The fields of `variants.get_spec('micro')`.
  network = efficientnet._gen_efficientnet(
    'efficientnet_b0',
    channel_multiplier=0.5,
    depth_multiplier=0.3,
    bn_eps=1e-3,
    pad_type='same',
    **arguments,
  )
  stem = network.conv_stem
  network.conv_stem = create_conv2d(
    *(stem.in_channels, stem.out_channels, stem.kernel_size[0]),
    stride=1,
    padding='same',
  )
  return network


def timms(
  name: str, resolution: int, batch: int, compiled: bool
) -> tuple[Step, int]:
  """Returns the same step of timm's network, optimiser and average."""
  import timm.optim
  import timm.utils
  import torch

  torch.set_num_threads(interleaved.THREADS)
  network = _timm_network(name).to(memory_format=torch.channels_last).train()
  optimizer = timm.optim.RMSpropTF(
    network.parameters(),
    lr=0.016 * batch / 256,
    alpha=0.9,
    eps=1e-3,
    momentum=0.9,
    weight_decay=1e-5,
  )
  average = timm.utils.ModelEmaV3(network, decay=0.9999, use_warmup=True)
  criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
  mean, std = (
    255 * torch.tensor(value).reshape(1, 3, 1, 1)
    for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
  )
  given = our_step.examples(resolution, batch)
  # A view: [n, h, w, 3] is [n, 3, h, w] with the channels last.
  images = torch.from_numpy(given['image']).permute(0, 3, 1, 2)
  labels = torch.from_numpy(given['label']).long()

  def forward(images, labels):
    return criterion(network((images.float() - mean) / std), labels)

  run = torch.compile(forward, dynamic=False) if compiled else forward
  count, loss = 0, None

  def step():
    nonlocal count, loss
    count += 1
    optimizer.zero_grad(set_to_none=True)
    loss = run(images, labels)
    loss.backward()
    optimizer.step()
    average.update(network, step=count)

  parameters = sum(p.numel() for p in network.parameters())
  return (step, lambda: loss.item()), parameters


MAKE = {
  'ours': ours,
  'torch_eager': functools.partial(timms, compiled=False),
  'torch_compile': functools.partial(timms, compiled=True),
}


def main(side: str) -> None:
  current: list[Step] = []

  def prepare(name: str, resolution: int, batch: int) -> dict[str, Any]:
    begun = time.perf_counter()
    (step, loss), parameters = MAKE[side](name, resolution, batch)
    step()
    current.append((step, loss))
    return {
      'parameters': parameters,
      'prepare_seconds': round(time.perf_counter() - begun, 1),
    }

  def after() -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {'loss': round(current[0][1](), 3), 'peak_mib': peak}

  workers.serve(
    {
      'prepare': prepare,
      'measure': lambda warm, calls: interleaved.measure(
        current[0][0], warm, calls
      ),
      'after': after,
    }
  )


if __name__ == '__main__':
  main(sys.argv[1])
