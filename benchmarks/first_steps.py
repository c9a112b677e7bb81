"""The recipe's first steps against an independent implementation.

    .venv-parity/bin/python benchmarks/first_steps.py [--images DIR]

B0 at 224 pixels, trained by `effnet_jax.build` and by timm's network, torch's
loss and timm's TF-style RMSProp: the same initial weights, the same batches of
real images, dropout and stochastic depth off. The learning rates of the other
side are the published rule, written again here. Compared are learning rate and
loss of every step, in float32 and in float64: rounding grows from step to step
in either, so that float32 alone could not tell an error from rounding.

DIR holds train/CLASS/IMAGE (benchmarks/stamps.py lays the Tux Paint stamps out
like that). Without it: the 20 photos that foolbox brings, cropped at random,
each a class of its own.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import our_step  # also makes configs importable
import reports
import tqdm

from effnet_jax.data import pipeline, preprocess, sources

NAME, RESOLUTION = 'b0', 224
# Asked for: relative difference of the loss by the last step it holds for.
LIMITS = {10: 1e-4, 50: 1e-2}
RATE_LIMIT = 1e-7
_PACKAGES = ('jax', 'flax', 'optax', 'torch', 'timm', 'numpy')
Batch = dict[str, np.ndarray]


def main() -> int:
  parser = reports.parser(__doc__, 'first_steps')
  parser.add_argument('--images', metavar='DIR', type=Path)
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--steps', type=int, default=50)
  arguments = parser.parse_args()
  with _folder(arguments.images) as folder:
    source = sources.open_source('folder', 'train', path=str(folder))
    batches = _batches(source, arguments.batch, arguments.steps)
  config = _config(arguments.batch, len(source), len(source.class_names))
  with tempfile.TemporaryDirectory() as directory:
    sides = {
      f'{name}, {"float64" if double else "float32"}': train(
        config, batches, Path(directory), double
      )
      for name, train in (('ours', _ours), ('timm', _theirs))
      for double in (False, True)
    }
  report = {
    'machine': reports.machine(),
    'versions': reports.versions(('python', *_PACKAGES)),
    'images': {
      'of': arguments.images.name if arguments.images else 'foolbox',
      'number': len(source),
      'classes': len(source.class_names),
    },
    'network': NAME,
    'resolution': RESOLUTION,
    'batch': arguments.batch,
    **compare(sides),
    'learning_rates': [rate for rate, _ in sides['ours, float32']],
    'losses': {
      name: [loss for _, loss in side] for name, side in sides.items()
    },
  }
  reports.write(arguments.out, report)
  for line in lines(report):
    print(line)
  return 0 if report['within'] else 1


# What is compared, of (side, side), and what it is for.
PAIRS = {
  'float32': ('ours, float32', 'timm, float32'),
  'float64': ('ours, float64', 'timm, float64'),
  'rounding of ours': ('ours, float32', 'timm, float64'),
  'rounding of timm': ('timm, float32', 'timm, float64'),
}


def compare(sides: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
  """Returns the differences of (learning rate, loss) of every step.

  `within` holds where the losses agree as asked for in float32, or in float64:
  then what float32 shows is rounding.
  """
  values = {name: np.array(side).T for name, side in sides.items()}
  rates = np.abs(values['ours, float32'][0] - values['timm, float32'][0]).max()
  apart = {}
  for pair, (one, other) in PAIRS.items():
    relative = np.abs(values[one][1] / values[other][1] - 1)
    apart[pair] = {f'to step {k}': float(relative[:k].max()) for k in LIMITS}
  agree = {
    pair: all(
      found <= limit
      for found, limit in zip(
        apart[pair].values(), LIMITS.values(), strict=True
      )
    )
    for pair in ('float32', 'float64')
  }
  return {
    'within': bool(rates <= RATE_LIMIT and any(agree.values())),
    'agree': agree,
    'learning_rate_difference': float(rates),
    'loss_difference': apart,
  }


def lines(report: dict[str, Any]) -> list[str]:
  """Returns the figures of a report for people."""
  asked = ' and '.join(
    f'{limit:.0e} to step {k}' for k, limit in LIMITS.items()
  )
  return [
    f'learning rates: {report["learning_rate_difference"]:.1e} apart at most '
    f'(asked for {RATE_LIMIT:.0e})',
    f'losses, asked for {asked}:',
    *(
      f'  {pair:<17}'
      + ''.join(f'{value:.1e} {steps}  ' for steps, value in of.items())
      for pair, of in report['loss_difference'].items()
    ),
  ]


@contextlib.contextmanager
def _folder(images: Path | None) -> Iterator[Path]:
  """The images as train/CLASS/IMAGE."""
  if images is not None:
    yield images
    return
  import foolbox

  photos = Path(foolbox.__file__).parent / 'data'
  with tempfile.TemporaryDirectory() as directory:
    for photo in sorted(photos.glob('imagenet_*')):
      folder = Path(directory) / 'train' / photo.stem
      folder.mkdir(parents=True)
      (folder / photo.name).symlink_to(photo)
    yield Path(directory)


def _batches(source: sources.Source, batch: int, steps: int) -> list[Batch]:
  """The batches that our pipeline shows: cropped and flipped at random."""
  shown = preprocess.Preprocess(RESOLUTION)
  iterator = pipeline.train_batches(source, shown, batch_size=batch, seed=0)
  with contextlib.closing(iterator):
    return [
      {key: value.copy() for key, value in next(iterator).items()}
      for _ in range(steps)
    ]


def _config(batch: int, examples: int, classes: int) -> Any:
  config = our_step.config_of(
    NAME, batch, dropout_rate=0.0, survival_probability=1.0
  )
  config.data.num_classes, config.data.train_examples = classes, examples
  return config


def _ours(
  config: Any, batches: list[Batch], directory: Path, double: bool
) -> list[tuple[float, float]]:
  """Trains with our step; leaves the first weights behind for timm."""
  import jax

  import effnet_jax
  from effnet_jax.training import parallel
  from effnet_jax.weights import write

  with _precision(config, double):
    program = effnet_jax.build(config, jax.devices()[:1])
    state = program.init()
    if double:
      state = jax.tree.map(
        lambda x: x.astype('float64') if x.dtype == 'float32' else x, state
      )
    else:
      start = jax.device_get(state.variables())
      write.write('timm', directory, program.model.spec, start)
    state = parallel.replicate(state, program.devices)
    key, steps = jax.random.key(config.seed), []
    title = f'ours, {config.model.dtype}'
    for number, batch in enumerate(tqdm.tqdm(batches, title)):
      placed = parallel.shard(batch, program.devices)
      state, metrics = program.train_step(state, placed, key)
      total, count = metrics['loss']
      rate = float(program.schedule(number))
      steps.append((rate, float(total) / float(count)))
  return steps


@contextlib.contextmanager
def _precision(config: Any, double: bool) -> Iterator[None]:
  """float64 wherever our code says float32: users have no use for it."""
  config.model.dtype = 'float32'
  if not double:
    yield
    return
  import jax
  import jax.numpy as jnp

  from effnet_jax.models import efficientnet

  config.model.dtype = 'float64'
  with (
    jax.enable_x64(True),
    mock.patch.object(jnp, 'float32', jnp.float64),
    mock.patch.object(efficientnet, 'DTYPES', ('float64',)),
  ):
    yield


def _theirs(
  config: Any, batches: list[Batch], directory: Path, double: bool
) -> list[tuple[float, float]]:
  """Trains timm's network from the same weights, by the published rule."""
  import safetensors.torch
  import timm
  import timm.optim
  import torch

  dtype = torch.float64 if double else torch.float32
  network = timm.create_model(
    f'tf_efficientnet_{NAME}', num_classes=config.data.num_classes
  )
  network.load_state_dict(
    safetensors.torch.load_file(directory / 'model.safetensors')
  )
  network = network.to(dtype).train()
  norms = {
    id(parameter)
    for module in network.modules()
    if isinstance(module, torch.nn.BatchNorm2d)
    for parameter in module.parameters()
  }
  decayed, not_decayed = [], []
  for parameter in network.parameters():
    (not_decayed if id(parameter) in norms else decayed).append(parameter)
  optimizer = timm.optim.RMSpropTF(
    [
      {'params': decayed, 'weight_decay': 1e-5},
      {'params': not_decayed, 'weight_decay': 0.0},
    ],
    lr=0.1,
    alpha=0.9,
    eps=1e-3,
    momentum=0.9,
  )
  criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
  mean, std = (
    255 * torch.tensor(value, dtype=dtype).reshape(1, 3, 1, 1)
    for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
  )
  steps = []
  title = f'timm, {"float64" if double else "float32"}'
  for number, batch in enumerate(tqdm.tqdm(batches, title)):
    rate = published_rate(number, config.batch_size, config.data.train_examples)
    for group in optimizer.param_groups:
      group['lr'] = rate
    images = torch.from_numpy(batch['image']).permute(0, 3, 1, 2).to(dtype)
    labels = torch.from_numpy(batch['label']).long()
    optimizer.zero_grad(set_to_none=True)
    loss = criterion(network((images - mean) / std), labels)
    loss.backward()
    optimizer.step()
    steps.append((rate, loss.item()))
  return steps


def published_rate(step: int, batch: int, examples: int) -> float:
  """.016 for 256 images, 5 epochs of warm-up, x.97 every 2.4 epochs from 0."""
  peak, steps_per_epoch = 0.016 * batch / 256, examples / batch
  warmup = int(5 * steps_per_epoch)
  if step < warmup:
    return peak * step / warmup
  return peak * 0.97 ** (step // (2.4 * steps_per_epoch))


if __name__ == '__main__':
  sys.exit(main())
