"""Weights from the Hugging Face hub, through its own client and its cache.

The client verifies sizes; here every file is also compared with the checksum
that the hub states for it, which the cache keeps as the name of the blob.
"""

import contextlib
import dataclasses
import errno
import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from effnet_jax.errors import UserError, near_names
from effnet_jax.models import published
from effnet_jax.weights.hub_config import HubConfig, read_config

WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # the first that is there
CONFIG = 'config.json'
_MAX_BYTES = 4 << 30  # the largest network of the family has 1.9 GB
_BY_HAND = (
  f'download its {WEIGHTS[0]} and {CONFIG} by hand into a folder and give that'
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Download:
  """Files in the cache, verified."""

  path: Path
  sha256: str | None  # None if the hub states none
  hub_config: HubConfig | None  # None if the repository has no config of timm's


def download(repo: str, revision: str = 'main', file: str = '') -> Download:
  """Gets weights and their config from the cache, or from the hub into it.

  Args:
    repo: `organisation/name`.
    revision: a branch, tag or commit.
    file: its path in the repository; empty for the first of `WEIGHTS`.

  Raises:
    UserError: no such repository, revision or file; no permission; the hub is
      out of reach and the cache has no copy; a file that is damaged (it is
      removed, so that the next call downloads it again); no room on the disk.
  """
  try:
    import huggingface_hub  # noqa: F401
  except ImportError:
    raise UserError(
      f'downloading {repo} takes huggingface_hub: '
      "pip install 'effnet_jax[weights]'"
    ) from None
  names = (file,) if file else WEIGHTS
  with _quiet():
    found = _first(repo, revision, names)
    if not found:
      raise UserError(
        f'{repo} has no {" or ".join(names)} at {revision}: '
        + (
          f'for {WEIGHTS[0]} write hf://{repo}'
          if file
          else f'name its file, hf://{repo}/FILE'
        )
      )
    path, sha256 = found
    # Of the same commit, though the branch may have moved since.
    beside = _first(repo, _commit(path) or revision, (CONFIG,))
  return Download(path, sha256, read_config(beside[0]) if beside else None)


def _first(
  repo: str, revision: str, names: Sequence[str]
) -> tuple[Path, str | None] | None:
  """The first of some files that exists, verified, with its sha256.

  None if the repository has none of them.
  """
  import huggingface_hub as hub

  for name in names:
    # One short question first: hf_hub_download alone would ask a dead host
    # again and again, for half a minute.
    try:
      url = hub.hf_hub_url(repo, name, revision=revision)
      known = hub.get_hf_file_metadata(
        url, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT
      )
    except hub.errors.EntryNotFoundError:
      # Asked by this one, the cache remembers the answer for when offline.
      with contextlib.suppress(Exception):
        hub.hf_hub_download(repo, name, revision=revision)
      continue
    except Exception as error:  # of the client, of its HTTP library, of sockets
      cached = [_cached(repo, revision, other) for other in names]
      path = next((path for path in cached if path), None)
      if path:
        return path, _verify(path, _blob_name(path))
      if None in cached:
        what = f'{CONFIG} of {repo}' if names == (CONFIG,) else repo
        line = _why_no_answer(error, repo, revision, what)
        raise UserError(line) from error
      return None
    if known.etag is None or known.commit_hash is None:
      raise UserError(
        f'{hub.constants.ENDPOINT} does not answer as a hub for {repo}: check '
        f'HF_ENDPOINT and the proxy; or {_BY_HAND}'
      )
    if known.size and known.size > _MAX_BYTES:
      raise UserError(
        f'{repo}/{name} has {known.size / 2**30:.0f} GB, no EfficientNet has: '
        'is it the right file?'
      )
    try:
      path = Path(hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:
      raise UserError(_why_no_file(error, repo, name)) from error
    return path, _verify(path, known.etag)
  return None


def _cached(
  repo: str, revision: str, name: str
) -> Path | Literal[False] | None:
  """Where the cache has a file.

  False if the cache remembers that there is none on the hub, None if it does
  not know the file.
  """
  import huggingface_hub as hub

  try:
    path = hub.try_to_load_from_cache(repo, name, revision=revision)
  except (ValueError, OSError):  # no name of a repository or a file
    return None
  if path is None:
    return None
  return Path(path) if isinstance(path, str) else False


def _commit(path: Path) -> str | None:
  """That of .../snapshots/<commit>/<file>."""
  for parent in path.parents:
    if parent.parent.name == 'snapshots':
      return parent.name
  return None


def _blob_name(path: Path) -> str:
  """The checksum by which the cache calls a file; empty if it is a copy."""
  return path.readlink().name if path.is_symlink() else ''


def _verify(path: Path, checksum: str) -> str | None:
  """Compares a file with its checksum and returns it if it is a sha256.

  Large files go by their sha256; small ones by the sha1 that git gives them.
  """
  with path.open('rb') as file:
    if re.fullmatch('[0-9a-f]{64}', checksum):
      found = hashlib.file_digest(file, 'sha256').hexdigest()
    elif re.fullmatch('[0-9a-f]{40}', checksum):
      data = file.read()
      header = b'blob %d\0' % len(data)
      found = hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
    else:
      return None
  if found == checksum:
    return checksum if len(checksum) == 64 else None
  # The cache would give it again, and again. It may hold a link to the blob,
  # and for that one to a store that repositories share.
  link = [path.parent / path.readlink()] if path.is_symlink() else []
  for bad in (path.resolve(), *link, path):
    with contextlib.suppress(OSError):
      bad.unlink()
  raise UserError(
    f'{path} is damaged: its checksum begins {found[:8]}, the hub states '
    f'{checksum[:8]}; it was removed, run the same again to download it'
  )


def _why_no_answer(
  error: Exception, repo: str, revision: str, what: str
) -> str:
  import huggingface_hub as hub

  status = getattr(getattr(error, 'response', None), 'status_code', None)
  match error:
    case hub.errors.HFValidationError():
      return f'{repo!r} is no repository: write hf://ORGANISATION/NAME'
    case hub.errors.OfflineModeIsEnabled():
      return (
        f'{what} is not in the cache {hub.constants.HF_HUB_CACHE}, and '
        f'HF_HUB_OFFLINE is set: unset it, or {_BY_HAND}'
      )
    case hub.errors.GatedRepoError():
      return f'{repo} is gated: accept its terms on the hub, then set HF_TOKEN'
    case hub.errors.RepositoryNotFoundError():
      near = near_names(repo, [f'timm/{name}' for name in _hub_names()])
      hint = near if near.startswith('did') else 'check its spelling'
      return f'no repository {repo} ({hint}); a private one needs HF_TOKEN'
    case hub.errors.RevisionNotFoundError():
      return (
        f'{repo} has no revision {revision}: without @{revision} it is main'
      )
  if status in (401, 403):
    return (
      f'the hub refuses {repo} ({status}): is HF_TOKEN set, and still good?'
    )
  if status:
    return f'the hub answers {status} for {repo}: try later, or {_BY_HAND}'
  if isinstance(error, OSError) and error.filename:  # its token, its cache
    return f'cannot use {error.filename} ({error.strerror}): set HF_HOME'
  return (
    f'cannot reach {hub.constants.ENDPOINT} ({_one_line(error)}), and {what} '
    f'is not in the cache: {_BY_HAND}; or prepare a cache elsewhere and '
    'set HF_HUB_OFFLINE=1'
  )


def _why_no_file(error: Exception, repo: str, name: str) -> str:
  import huggingface_hub as hub

  if isinstance(error, OSError) and error.errno is not None:
    room = 'make room' if error.errno in _NO_ROOM else 'make it writable'
    return (
      f'cannot keep {repo}/{name} in {hub.constants.HF_HUB_CACHE} '
      f'({error.strerror}): {room}, or set HF_HOME to another folder'
    )
  return (
    f'the download of {repo}/{name} was cut short ({_one_line(error)}): run '
    f'the same again, or {_BY_HAND}'
  )


def _hub_names() -> list[str]:
  return [r.weights for r in published.RESULTS if r.source == 'timm']


def _one_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:160] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet():
  """Without the client's warnings: what matters of them ends in an error."""
  from huggingface_hub.utils import logging

  verbosity = logging.get_verbosity()
  logging.set_verbosity_error()
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    logging.set_verbosity(verbosity)
