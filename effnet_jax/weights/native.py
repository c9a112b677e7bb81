"""This project's own weights files: safetensors with the network as metadata.

A directory that `convert` wrote holds one file, `model.safetensors`. Its
header says everything that is needed to build the network again.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effnet_jax.errors import UserError
from effnet_jax.models.spec import ModelSpec, parse_stages
from effnet_jax.weights import copier, files
from effnet_jax.weights.layouts.native import NATIVE

FILE = 'model.safetensors'
_KEY = 'effnet_jax'


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What the header of a file says."""

  spec: ModelSpec
  class_names: tuple[str, ...] | None = None
  source: str | None = None  # where the weights came from


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
  """Returns a specification as JSON has it, stages as their strings."""
  fields = {
    field.name: getattr(spec, field.name)
    for field in dataclasses.fields(ModelSpec)
  }
  return {**fields, 'stages': ' '.join(map(str, spec.stages))}


def spec_from_json(fields: Mapping[str, Any]) -> ModelSpec:
  """The inverse of `spec_to_json`."""
  known = {field.name for field in dataclasses.fields(ModelSpec)}
  unknown = sorted(set(fields) - known)
  if unknown:
    raise UserError(
      f'a newer effnet_jax wrote these weights (it knows {unknown[0]!r}): '
      'upgrade'
    )
  if not isinstance(fields['stages'], str):
    raise TypeError('stages')
  values = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in fields.items()
  }
  return ModelSpec(**{**values, 'stages': parse_stages(fields['stages'])})


def write(
  directory: str | os.PathLike,
  spec: ModelSpec,
  variables: Mapping[str, Any],
  *,
  class_names: tuple[str, ...] | None = None,
  source: str | None = None,
) -> Path:
  """Writes a network and its variables; returns the file.

  Raises:
    UserError: the directory cannot be written.
  """
  path = make_directory(directory) / FILE
  metadata = {
    'spec': spec_to_json(spec),
    'class_names': class_names,
    'source': source,
  }
  arrays = copier.write(variables, NATIVE.entries(spec))
  files.write_safetensors(path, arrays, {_KEY: json.dumps(metadata)})
  return path


def make_directory(directory: str | os.PathLike) -> Path:
  """Makes a directory where there is none, and returns its path."""
  path = Path(directory).expanduser()
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'{directory} cannot be made ({error.strerror}): name another directory'
    ) from error
  return path


def read_metadata(metadata: Mapping[str, str], source: str) -> Metadata:
  """Returns what the header of a file says.

  Raises:
    UserError: it says nothing, or nonsense.
  """
  try:
    found = json.loads(metadata[_KEY])
    names = found['class_names']
    return Metadata(
      spec_from_json(found['spec']),
      tuple(names) if names else None,
      found['source'],
    )
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(
      f'the header of {source} does not say which network it is of: convert '
      'it again'
    ) from error
