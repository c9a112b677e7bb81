"""Published weights in: from a source to a specification and its variables."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, variants
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import conventions, copier, files, native
from effnet_jax.weights.fetch import Fetched, fetch
from effnet_jax.weights.layouts import keras
from effnet_jax.weights.layouts.layout import Arrays, Entry, Layout
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
  elif fetched.sha256_prefix and called:
    same_variant(name, called, fetched.path)
  fields: dict[str, Any] = {}
  if layout.name == 'timm':
    architecture = fetched.hub_config and fetched.hub_config.architecture
    fields = conventions.timm((architecture, name, called), overrides)
  elif layout.name == 'torchvision':
    fields = conventions.torchvision(spec.name, fetched.path.name)
  elif layout.name == 'tensorflow' and spec.name.startswith('edgetpu'):
    fields = {'stride_in': 'project'}  # as they were trained
  elif layout.name == 'keras' and (state := keras.normalization(arrays)):
    fields = dict(zip(('mean', 'std'), state, strict=True))
  spec = dataclasses.replace(spec, **fields)
  if not fetched.hub_config:
    by_file = conventions.by_file(fetched.path, spec)
    spec = dataclasses.replace(spec, **by_file)
  else:
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
  elif not any(entry.key in arrays for entry in head):
    raise UserError(
      f'{source} has no classifier ({head[0].key} is missing): ask for a new '
      'head (new_head=True, config.init_head=new)'
    )
  classes = _classes(arrays, head, spec)
  background = classes == 1001 and num_classes == 1000 and not new_head
  if new_head:
    classes = num_classes if num_classes is not None else spec.num_classes
  elif not background and num_classes not in (None, classes):
    raise UserError(
      f'{source} has {classes} classes, not {num_classes}: leave the number '
      'out, or ask for a new head (new_head=True, config.init_head=new)'
    )
  spec = dataclasses.replace(spec, num_classes=classes)
  model = efficientnet.build(spec)
  variables = copier.read(
    arrays, layout, entries, efficientnet.shapes(model), source, spec.name
  )
  params = variables['params']
  if new_head:
    params['classifier'] = efficientnet.init_classifier(model, seed)
  elif background:  # TensorFlow's first class
    head = params['classifier']
    params['classifier'] = {
      'kernel': head['kernel'][:, 1:],
      'bias': head['bias'][1:],
    }
    spec = dataclasses.replace(spec, num_classes=1000)
  return Weights(spec, variables, layout.name, tag, class_names)


def _classes(arrays: Arrays, head: Sequence[Entry], spec: ModelSpec) -> int:
  """Returns how many classes the weights have; the copier judges the rest."""
  (bias,) = (entry.key for entry in head if entry.path[-1] == 'bias')
  if bias in arrays and arrays[bias].ndim == 1 and len(arrays[bias]):
    return len(arrays[bias])
  return spec.num_classes
