"""Finds the weights in the checkpoints of PyTorch's training scripts."""

from collections.abc import Mapping
from typing import Any

from effnet_jax.errors import UserError
from effnet_jax.weights import raw
from effnet_jax.weights.pickled import HOW_TO_SAVE

# What timm, torchvision and others call them; averaged weights before others,
# for those are what the published accuracies are of.
_CONTAINERS = (
  *('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema'),
  *('state_dict', 'model_state_dict', 'model', 'net', 'module'),
)
# What DataParallel, AveragedModel and torch.compile put before every name.
_PREFIXES = ('module.', '_orig_mod.')
_COUNTER = 'n_averaged'  # of AveragedModel
_MAX_DEPTH = 3


def find(
  objects: Any, tensor_type: type
) -> tuple[dict[str, Any], dict[str, str]]:
  """Finds the one state dict in what a file holds.

  Args:
    objects: dicts, lists and values.
    tensor_type: of the tensors in them.

  Returns:
    The tensors by name without the prefixes of wrappers, and metadata:
    `state_dict`, where in the file they were ('' for on their own);
    `prefix`, what was taken off every name; `arch`, if the file says.

  Raises:
    UserError: there is no state dict, or several.
  """
  metadata, place = {}, []
  for _ in range(_MAX_DEPTH):
    if not isinstance(objects, dict):
      break
    if isinstance(objects.get('arch'), str):
      metadata['arch'] = objects['arch']
    inner = _inner(objects, tensor_type)
    if inner is None:
      tensors = _tensors(objects, tensor_type)
      if not tensors:
        break
      tensors, metadata['prefix'] = _strip(tensors)
      return tensors, {**metadata, 'state_dict': '.'.join(place)}
    place.append(inner)
    objects = objects[inner]
  raise UserError(f'it holds no state dict: {HOW_TO_SAVE}')


def _inner(objects: Mapping[Any, Any], tensor_type: type) -> str | None:
  """Returns the name of the dict in this one that holds the weights."""
  dicts = {
    name: value
    for name, value in objects.items()
    if isinstance(name, str) and isinstance(value, dict)
  }
  full = [n for n, value in dicts.items() if _tensors(value, tensor_type)]
  for name in _CONTAINERS:
    if name in full or not dicts.get(name, {}).keys().isdisjoint(_CONTAINERS):
      return name
  if not full or _tensors(objects, tensor_type):
    return None
  if len(full) > 1:
    names = ', '.join(raw.quoted(name, 30) for name in full[:5])
    raise UserError(f'it holds several state dicts ({names}): {HOW_TO_SAVE}')
  return full[0]


def _tensors(objects: Mapping[Any, Any], tensor_type: type) -> dict[str, Any]:
  return {
    name: value
    for name, value in objects.items()
    if isinstance(name, str) and isinstance(value, tensor_type)
  }


def _strip(tensors: dict[str, Any]) -> tuple[dict[str, Any], str]:
  stripped = ''
  for _ in _PREFIXES:
    names = [name for name in tensors if name != _COUNTER]
    prefix = next(
      (p for p in _PREFIXES if names and all(n.startswith(p) for n in names)),
      '',
    )
    if prefix:
      tensors = {name.removeprefix(prefix): tensors[name] for name in names}
      stripped += prefix
  return tensors, stripped
