"""Published weights in: from a source to a specification and its variables."""

import dataclasses
import os
from typing import Any

import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, variants
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import conventions, copier, files, native
from effnet_jax.weights.fetch import Fetched, fetch
from effnet_jax.weights.layouts import keras
from effnet_jax.weights.layouts.layout import Arrays, Layout
from effnet_jax.weights.layouts.registry import recognise

_HEAD = ('params', 'classifier')


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights that were read.

  Attributes:
    spec: the network that they are of, its preprocessing included.
    variables: `params` and `batch_stats`, float32 numpy arrays.
    layout: in which they came.
    tag: of the training recipe, where the source names it, as `ns_jft_in1k`.
    class_names: where the source has them.
    origin: what a file of `convert` was converted from.
  """

  spec: ModelSpec
  variables: dict[str, Any]
  layout: str
  tag: str | None = None
  class_names: tuple[str, ...] | None = None
  origin: str | None = None


def load(
  source: str | os.PathLike,
  name: str | None = None,
  *,
  num_classes: int | None = None,
  new_head: bool = False,
  seed: int = 0,
  **overrides: Any,
) -> Weights:
  """Reads published weights into a network that gives the same logits.

  Args:
    source: a file, a directory, `hf://ORGANISATION/NAME`, or a packaged
      variant, see `fetch`.
    name: the variant. Needed where the source does not say; in timm's layout
      by timm's own name, since that tells how the weights pad.
    num_classes: of the classifier; None for as many as the weights have.
      EdgeTPU's 1001 become 1000 by leaving out the background.
    new_head: start a fresh classifier and leave the weights' own out.
    seed: of a fresh classifier.
    **overrides: fields of `ModelSpec`.

  Raises:
    UserError: anything about the source, the file, the name or the fit.
  """
  fetched = fetch(source)
  file = files.read(fetched.path)  # its checksum is verified
  layout = recognise(file.arrays.keys(), str(source))
  arrays = layout.prepare(file.arrays)
  if layout.name == 'effnet_jax':
    saved = native.read_metadata(file.metadata, str(source))
    same_variant(name, saved.spec.name, source)
    base, class_names, origin = saved.spec, saved.class_names, saved.source
  else:
    base, origin = _spec(name, fetched, layout, arrays, overrides), None
    class_names = fetched.hub_config.label_names if fetched.hub_config else None
  weights = fill(
    variants.replace(base, **overrides),
    layout,
    arrays,
    source=str(source),
    num_classes=num_classes,
    new_head=new_head,
    seed=seed,
    tag=fetched.hub_config.tag if fetched.hub_config else None,
    class_names=class_names,
  )
  return dataclasses.replace(weights, origin=origin)


def _spec(
  name: str | None,
  fetched: Fetched,
  layout: Layout,
  arrays: Arrays,
  overrides: dict[str, Any],
) -> ModelSpec:
  """Returns the network that a source, its name and its layout make."""
  called = fetched.name and fetched.name.partition('.')[0]
  if name is None and called is None:
    raise UserError(
      f'{fetched.path} does not say which network it is of: name it, e.g. '
      '--model tf_efficientnet_b0'
    )
  spec = variants.get_spec(name or called)
  if fetched.hub_config:
    same_variant(name, fetched.hub_config.architecture, fetched.path)
  fields: dict[str, Any] = {}
  if layout.name == 'timm':
    architecture = fetched.hub_config and fetched.hub_config.architecture
    fields = conventions.timm((architecture, name, called), overrides)
  elif layout.name == 'torchvision':
    fields = conventions.torchvision(spec.name)
  elif layout.name == 'tensorflow' and spec.name.startswith('edgetpu'):
    fields = {'stride_in': 'project'}  # as they were trained
  elif layout.name == 'keras' and (state := keras.normalization(arrays)):
    fields = dict(zip(('mean', 'std'), state, strict=True))
  spec = dataclasses.replace(spec, **fields)
  if fetched.hub_config:
    spec = dataclasses.replace(
      spec, **conventions.hub(fetched.hub_config, spec)
    )
  return spec


def same_variant(name: str | None, theirs: str, source: Any) -> None:
  """Raises where the caller's name is of another network than the source's."""
  if name is None:
    return
  ours = variants.get_spec(name).name
  try:
    named = variants.get_spec(theirs).name
  except UserError:
    return  # a name of its own; shapes decide
  if ours != named and not {ours, named} <= {'l2', 'l2_475'}:
    raise UserError(f'{source} holds {named}, not {ours}')


def fill(
  spec: ModelSpec,
  layout: Layout,
  arrays: Arrays,
  *,
  source: str,
  num_classes: int | None,
  new_head: bool,
  seed: int,
  tag: str | None = None,
  class_names: tuple[str, ...] | None = None,
) -> Weights:
  """Copies arrays into the variables of a network; arguments as `load`."""
  entries = layout.entries(spec)
  head = [entry for entry in entries if entry.path[:2] == _HEAD]
  if new_head:
    theirs = {entry.key for entry in head}
    arrays = {key: value for key, value in arrays.items() if key not in theirs}
    entries = [entry for entry in entries if entry not in head]
    class_names = None
  else:
    (bias,) = (entry.key for entry in head if entry.path[-1] == 'bias')
    classes = len(arrays[bias]) if bias in arrays else None
    wanted = num_classes or classes or spec.num_classes
    if classes == 1001 and wanted == 1000:
      # TensorFlow's first class is the background.
      arrays = {
        **arrays,
        **{e.key: _without_first(arrays[e.key], classes) for e in head},
      }
    elif classes and classes != wanted:
      raise UserError(
        f'{source} has {classes} classes, not {wanted}: ask for a new head '
        '(new_head=True, config.init_head=new), or leave the number out'
      )
    num_classes = wanted
  spec = dataclasses.replace(spec, num_classes=num_classes or spec.num_classes)
  model = efficientnet.build(spec)
  variables = copier.read(
    arrays, layout, entries, efficientnet.shapes(model), source
  )
  if new_head:
    classifier = efficientnet.init_classifier(model, seed)
    variables['params']['classifier'] = classifier
  return Weights(spec, variables, layout.name, tag, class_names)


def _without_first(array: np.ndarray, classes: int) -> np.ndarray:
  """Takes class 0 off; the axis of classes is the one of their number."""
  return array.take(range(1, classes), axis=array.shape.index(classes))
