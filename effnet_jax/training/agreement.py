"""Whether all processes are about to train the same thing, found at the start.

Processes that differ in a batch size or a file would train on, each its own,
or wait for one another forever.
"""

import json
import time
import uuid
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from effnet_jax.errors import UserError
from effnet_jax.training import parallel, resume
from effnet_jax.training.inputs import Data

# Where the same data lie and who reads them is each machine's own.
_MAY_DIFFER = ('data.path', 'data.unlabelled', 'data.workers')
_SEEN_SECONDS = 30  # a network disk may show a new file late


def open_data(config: ConfigDict, workdir: epath.Path) -> Data:
  """Opens the data; with several processes, the same in all of them.

  Raises:
    UserError: in every process, if it is wrong in one: with config or data, or
      they differ, or the processes do not share the work directory.
  """
  if parallel.process_count() == 1:
    return Data(config)
  data, mine = None, {'error': '', 'token': uuid.uuid4().hex}
  try:
    data = Data(config)
    mine |= {
      'devices': parallel.local_device_count(),
      'config': json.loads(json.dumps(config.to_dict())),
      'data': data.fingerprints(),
    }
  except UserError as error:
    mine['error'] = str(error)
  everyone = parallel.exchange(mine)
  _raise_first([given['error'] for given in everyone])
  compare(everyone)
  check_shared(workdir, everyone[0]['token'])
  assert data is not None
  return data


def compare(everyone: list[dict[str, Any]]) -> None:
  """Raises `UserError` where a process gives other things than process 0."""
  first = _flat(everyone[0])
  for index, given in enumerate(everyone):
    other = _flat(given)
    differing = [
      f'{key} ({first.get(key)!r} and {other.get(key)!r})'
      for key in sorted({**first, **other})
      if first.get(key) != other.get(key)
    ]
    if differing:
      raise UserError(
        f'process 0 and process {index} differ in {", ".join(differing)}: give '
        'all the same command, on the same data and number of devices'
      )


def _flat(given: dict[str, Any]) -> dict[str, Any]:
  config = dict(resume.flatten(given['config']))
  return {
    'devices': given['devices'],
    **{f'config.{k}': v for k, v in config.items() if k not in _MAY_DIFFER},
    **{f'the digest of {k} data': v for k, v in given['data'].items()},
  }


def check_shared(workdir: epath.Path, token: str) -> None:
  """Raises `UserError` unless all processes see a file that the first writes.

  Orbax would wait for files that never come.
  """
  path, error, here = workdir / f'.shared-{token}', '', parallel.process_index()
  if here == 0:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      path.write_text('')
    except OSError as failed:
      error = f'the work directory cannot be written: {failed}'
  _raise_first(parallel.exchange(error))
  try:
    deadline = time.monotonic() + _SEEN_SECONDS
    while not path.exists() and time.monotonic() < deadline:
      time.sleep(0.5)
    if not path.exists():
      error = (
        f'what process 0 writes to {workdir} is not there: --workdir must be '
        'on storage that all processes share, such as NFS or a bucket'
      )
    told = parallel.exchange(error)
  finally:
    if here == 0:
      path.unlink(missing_ok=True)
  _raise_first(told)


def _raise_first(told: list[str]) -> None:
  for index, error in enumerate(told):
    if error:
      raise UserError(f'process {index}: {error}')
