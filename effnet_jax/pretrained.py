"""Networks by name: with fresh weights, published ones, or one's own."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from effnet_jax import errors
from effnet_jax.models import auxiliary, efficientnet, variants
from effnet_jax.models.efficientnet import EfficientNet
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import copier
from effnet_jax.weights.layouts.native import NATIVE
from effnet_jax.weights.load import Weights, fill, same_variant
from effnet_jax.weights.load import load as load_weights


def create_model(
  name: str,
  num_classes: int | None = None,
  pretrained: str | os.PathLike | None = None,
  *,
  new_head: bool = False,
  dtype: str = 'float32',
  seed: int = 0,
  depthwise: str = 'auto',
  **overrides: Any,
) -> tuple[EfficientNet, dict[str, Any]]:
  """Returns a network with fresh or published weights.

  Args:
    name: a variant, see `list_models()`; for a file of timm's by timm's name.
    num_classes: size of the classifier; None for 1000, or as many as the
      weights have.
    pretrained: where weights come from: a file in the layout of timm,
      torchvision, lukemelas, Keras or the TensorFlow originals; a directory of
      `convert` or of a training run; `hf://ORGANISATION/NAME`; or a packaged
      variant (`lite0`). None for fresh ones.
    new_head: with `pretrained`, start a fresh classifier.
    dtype: of convolutions and activations, `float32` or `bfloat16`.
    seed: of fresh weights.
    depthwise: `auto`, `grouped` or `shifted`, see `models.depthwise`.
    **overrides: fields of `ModelSpec`, such as `resolution` or `stem_stride`.

  Returns:
    model: `model.apply(variables, images)` takes images [n, h, w, 3] that
      `normalize(images, model.spec)` gives, and returns `(logits, endpoints)`.
    variables: `params` and `batch_stats`.

  Raises:
    UserError: an unknown variant, field or value; weights that do not fit.

  Example:
    >>> model, variables = create_model('micro', num_classes=10)
    >>> images = jnp.zeros((2, 16, 16, 3))
    >>> logits, endpoints = model.apply(variables, images, train=False)
    >>> logits.shape
    (2, 10)
  """
  if pretrained is None:
    if new_head:
      raise errors.UserError('new_head is for pretrained weights')
    classes = 1000 if num_classes is None else num_classes
    spec = variants.get_spec(name, num_classes=classes, **overrides)
    model = efficientnet.build(spec, dtype, depthwise)
    return model, efficientnet.init(model, seed)
  weights = read(
    pretrained,
    name,
    num_classes=num_classes,
    new_head=new_head,
    seed=seed,
    **overrides,
  )
  model = efficientnet.build(weights.spec, dtype, depthwise)
  return model, efficientnet.on_device(weights.variables)


def load(
  source: str | os.PathLike, name: str | None = None, *, ema: bool = True
) -> tuple[EfficientNet, dict[str, Any]]:
  """Returns a trained network and its variables, as the source has them.

  Args:
    source: as `create_model` takes for `pretrained`. Of a training run the
      checkpoint that its summary reports is read, or the newest of a run that
      is not finished.
    name: the variant, where the source does not say.
    ema: of a training run the averaged weights, or the raw ones.

  Raises:
    UserError: nothing there, or nothing that fits.

  Example:
    model, variables = effnet_jax.load('runs/quickstart')
    logits, endpoints = model.apply(variables, images)
  """
  weights = read(source, name, ema=ema)
  model = efficientnet.build(weights.spec)
  return model, efficientnet.on_device(weights.variables)


def read(
  source: str | os.PathLike,
  name: str | None = None,
  *,
  ema: bool = True,
  num_classes: int | None = None,
  new_head: bool = False,
  seed: int = 0,
  **overrides: Any,
) -> Weights:
  """Returns weights from any source; arguments as `weights.load.load`."""
  if not isinstance(source, str | os.PathLike):
    raise errors.UserError(
      f'{source!r} names no weights: give a path, hf://ORGANISATION/NAME or a '
      'packaged variant such as lite0'
    )
  arguments = {'num_classes': num_classes, 'new_head': new_head, 'seed': seed}
  workdir = _workdir(source)
  if workdir is None:
    if not ema:
      raise errors.UserError(
        f'{source} is no training run: only a run has raw weights beside the '
        'averaged ones'
      )
    return load_weights(source, name, **arguments, **overrides)
  spec, variables, class_names = _read_workdir(workdir, ema)
  same_variant(name, spec.name, source)
  return fill(
    variants.replace(spec, **overrides),
    NATIVE,
    copier.write(variables, NATIVE.entries(spec)),
    source=str(source),
    class_names=class_names,
    **arguments,
  )


def _workdir(source: str | os.PathLike) -> epath.Path | None:
  """Returns the work directory that a source is, None if it is none."""
  text = os.fspath(source)
  bucket = text.startswith(('gs://', 's3://'))
  if not bucket and not os.path.isdir(os.path.expanduser(text)):
    return None
  # Here, for Orbax takes seconds to import and few sources need it.
  from effnet_jax.training.checkpoint import open_workdir

  workdir = open_workdir(text)
  try:
    if (workdir / 'checkpoints').exists():
      return workdir
    if (workdir / 'metrics.jsonl').exists():
      raise errors.UserError(f'{source} holds no checkpoint of its run yet')
  except OSError as error:
    raise errors.UserError(
      f'{source} cannot be read: {error.strerror}'
    ) from error
  if bucket:
    raise errors.UserError(f'{source} holds no checkpoints of a training run')
  return None


def spec_of_run(config: Mapping[str, Any]) -> ModelSpec:
  """Returns the network that a run's config makes, its images included."""
  overrides = {
    field: value
    for field, value in config['model']['overrides'].items()
    if value is not None
  }
  data = config['data']
  if data['resampling'] is not None:
    overrides['resampling'] = data['resampling']
  if data['crop_padding'] is not None:
    squash = data['crop_padding'] < 0
    overrides['crop_padding'] = None if squash else data['crop_padding']
  return variants.get_spec(
    config['model']['name'], num_classes=data['num_classes'], **overrides
  )


def config_of_run(source: str | os.PathLike) -> dict[str, Any] | None:
  """Returns the config of a training run, None of what is none.

  Its splits are those that were trained, evaluated and tested on.

  Raises:
    UserError: a run without a checkpoint.
  """
  workdir = _workdir(source)
  if workdir is None:
    return None
  with _reported(workdir) as (checkpoints, step):
    return checkpoints.run(step)['config']


@contextlib.contextmanager
def _reported(workdir: epath.Path) -> Iterator[tuple[Any, int]]:
  """Gives the checkpoints of a run, and the step that its summary reports."""
  from effnet_jax.training import reporting
  from effnet_jax.training.checkpoint import Checkpoints

  with Checkpoints(workdir, writing=False) as checkpoints:
    latest = checkpoints.latest()
    if latest is None:
      raise errors.UserError(f'{workdir} holds no finished checkpoint yet')
    yield checkpoints, reporting.finished_step(workdir) or latest


def _read_workdir(
  workdir: epath.Path, ema: bool
) -> tuple[ModelSpec, dict[str, Any], tuple[str, ...] | None]:
  with _reported(workdir) as (checkpoints, step):
    run = checkpoints.run(step)
    names = run.get('class_names')  # the first runs have none
    return (
      spec_of_run(run['config']),
      auxiliary.main(checkpoints.variables(step, ema)),
      tuple(names) if names else None,
    )
