"""Weights out: files that timm and Keras load strictly."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effnet_jax.errors import UserError, near_names
from effnet_jax.models import variants
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import copier, files, native
from effnet_jax.weights.layouts import keras, pytorch

TARGETS = ('effnet_jax', 'timm', 'keras')
FILES = ('model.safetensors', 'config.json', 'model.weights.h5')

# Fields that are the images' or training's, so that weights go anywhere with
# any of them.
_FREE = (
  *('num_classes', 'resolution', 'train_resolution', 'dropout_rate'),
  *('survival_probability', 'bn_momentum', 'mean', 'std', 'resampling'),
  *('crop_padding', 'name'),
)
_TIMM = {
  **{f'b{i}': f'efficientnet_b{i}' for i in range(9)},
  **{f'lite{i}': f'efficientnet_lite{i}' for i in range(5)},
  **{f'edgetpu_{size}': f'efficientnet_e{size}' for size in 'sml'},
  **{f'v2_b{i}': f'efficientnetv2_b{i}' for i in range(4)},
  **{f'v2_{size}': f'efficientnetv2_{size}' for size in ('s', 'm', 'l', 'xl')},
  'l2': 'efficientnet_l2',
  'l2_475': 'efficientnet_l2',
  'condconv_b0_4e': 'efficientnet_cc_b0_4e',
  'condconv_b0_8e': 'efficientnet_cc_b0_8e',
  'condconv_b1_8e': 'efficientnet_cc_b1_8e',
}
# There is no V2-B in timm without TensorFlow's padding.
_ONLY_TF = ('v2_b0', 'v2_b1', 'v2_b2', 'v2_b3')
_KERAS = {
  **{f'b{i}': f'EfficientNetB{i}' for i in range(8)},
  **{f'v2_b{i}': f'EfficientNetV2B{i}' for i in range(4)},
  **{f'v2_{size}': f'EfficientNetV2{size.upper()}' for size in 'sml'},
}
_INTERPOLATION = {
  **{'tf1': 'bicubic', 'pillow': 'bicubic'},
  **{'tf_bilinear': 'bilinear', 'pillow_bilinear': 'bilinear'},
}


@dataclasses.dataclass(frozen=True)
class Written:
  """What was written, and how its reader takes it."""

  path: Path
  how: str  # Python that loads it
  note: str = ''  # what the file cannot carry


def write(
  to: str,
  directory: str | os.PathLike,
  spec: ModelSpec,
  variables: Mapping[str, Any],
  *,
  class_names: tuple[str, ...] | None = None,
  source: str | None = None,
) -> Written:
  """Writes weights for `to`, one of TARGETS, into a directory.

  Raises:
    UserError: an unknown target; a network that it does not have; a directory
      that cannot be written.
  """
  if to == 'effnet_jax':
    path = native.write(
      directory, spec, variables, class_names=class_names, source=source
    )
    _clear(path)
    return Written(path, f'effnet_jax.load({str(directory)!r})')
  if to == 'timm':
    return _timm(Path(directory), spec, variables, class_names)
  if to == 'keras':
    return _keras(Path(directory), spec, variables)
  raise UserError(f'nothing writes for {to!r}: {near_names(to, TARGETS)}')


def _timm(
  directory: Path,
  spec: ModelSpec,
  variables: Mapping[str, Any],
  class_names: tuple[str, ...] | None,
) -> Written:
  architecture = _timm_architecture(spec)
  arrays = dict(copier.write(variables, pytorch.TIMM.entries(spec)))
  for key in list(arrays):
    if key.endswith('.running_mean'):
      counter = key.replace('running_mean', 'num_batches_tracked')
      arrays[counter] = np.zeros((), np.int64)
  size = spec.resolution
  squash = spec.crop_padding is None
  card = {
    'architecture': architecture,
    'num_classes': spec.num_classes,
    'num_features': spec.head_width,
    'pretrained_cfg': {
      'tag': 'effnet_jax',
      'num_classes': spec.num_classes,
      'input_size': [3, size, size],
      'mean': list(spec.mean),
      'std': list(spec.std),
      'interpolation': _INTERPOLATION[spec.resampling],
      'crop_pct': size / (size + (spec.crop_padding or 0)),
      'crop_mode': 'squash' if squash else 'center',
    },
  }
  if class_names:
    card['label_names'] = list(class_names)
  path = native.make_directory(directory) / 'model.safetensors'
  files.write_safetensors(path, arrays, {'format': 'pt'})
  _clear(path)
  _write_text(directory / 'config.json', json.dumps(card, indent=2) + '\n')
  return Written(
    path, f"timm.create_model('local-dir:{directory}', pretrained=True)"
  )


def _timm_architecture(spec: ModelSpec) -> str:
  name = _published_name(spec, _TIMM, 'timm')
  form = spec.padding, spec.bn_epsilon
  if form == ('same', 1e-3):
    return 'tf_' + _TIMM[name]
  if form == ('symmetric', 1e-5) and name not in _ONLY_TF:
    return _TIMM[name]
  raise UserError(
    f'timm has no {name} with {spec.padding} padding and bn_epsilon '
    f'{spec.bn_epsilon:g}: it knows same with .001 and symmetric with .00001'
  )


def _keras(
  directory: Path, spec: ModelSpec, variables: Mapping[str, Any]
) -> Written:
  name = _published_name(spec, _KERAS, 'Keras')
  if (spec.padding, spec.bn_epsilon) != ('same', 1e-3):
    raise UserError(
      f'Keras has {_KERAS[name]} with same padding and bn_epsilon .001 only, '
      f'these weights want {spec.padding} and {spec.bn_epsilon:g}'
    )
  arrays = copier.write(variables, keras.NUMBERED.entries(spec))
  path = native.make_directory(directory) / 'model.weights.h5'
  files.write_hdf5(path, keras.file_arrays(spec, arrays))
  _clear(path)
  model = f'keras.applications.{_KERAS[name]}(weights=None, classes={{}}{{}})'
  published = variants.get_spec(name)
  note = extra = ''
  if keras.is_v2(spec) and (spec.mean, spec.std) != (
    published.mean,
    published.std,
  ):
    # Constants of the code there, not of the file.
    extra = ', include_preprocessing=False'
    note = (
      'These weights take other images than Keras makes: give it pixels / 255 '
      f'less {spec.mean}, over {spec.std}.'
    )
  model = model.format(spec.num_classes, extra)
  return Written(
    path, f'model = {model}\nmodel.load_weights({str(path)!r})', note
  )


def _published_name(
  spec: ModelSpec, known: Mapping[str, str], peer: str
) -> str:
  """Returns the variant that a network is, if the peer has it as it is."""
  if spec.name not in known:
    raise UserError(f'{peer} has no {spec.name}; it has {", ".join(known)}')
  published = variants.get_spec(spec.name)
  for field in dataclasses.fields(ModelSpec):
    if field.name in (*_FREE, 'padding', 'bn_epsilon'):
      continue
    ours = getattr(spec, field.name)
    theirs = getattr(published, field.name)
    if ours != theirs:
      raise UserError(
        f'{peer} has no {spec.name} with another {field.name} than the '
        f'published one'
      )
  return spec.name


def _clear(written: Path) -> None:
  """Removes what an earlier conversion left beside a file just written."""
  for name in set(FILES) - {written.name}:
    beside = written.parent / name
    try:
      beside.unlink(missing_ok=True)
    except OSError as error:
      raise UserError(
        f'{beside} is of an earlier conversion and cannot be removed '
        f'({error.strerror}): name another directory'
      ) from error


def _write_text(path: Path, text: str) -> None:
  try:
    path.write_text(text, 'utf-8')
  except OSError as error:
    raise UserError(f'{path} cannot be written: {error.strerror}') from error
