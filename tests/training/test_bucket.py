"""A work directory on a bucket: a file system in memory stands for it.

Checkpoints are not in it: Orbax writes their arrays by tensorstore, which
knows Google's service alone.
"""

import importlib
import json

import pytest
import tensorboardX.record_writer
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from effnet_jax.errors import UserError
from effnet_jax.training import agreement, checkpoint, reporting


class _Bucket(MemoryFileSystem):
  """gs:// as gcsfs has it: whole files, no appending."""

  protocol = ('gcs', 'gs')
  store: dict = {}
  pseudo_dirs: list = ['']

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix('gs://'))

  def _open(self, path, mode='rb', **kwargs):
    assert 'a' not in mode and '+' not in mode
    return super()._open(path, mode=mode, **kwargs)


class _File:
  """Without a `fileno`, as tensorboardX's own writer of gs://."""

  def __init__(self):
    self.written = b''

  def write(self, data):
    self.written += data

  def flush(self):
    pass

  close = flush


class _Events:
  """In the place of the writer that uses google-cloud-storage."""

  files: dict[str, _File] = {}

  def directory_check(self, path):
    assert path.startswith('gs://')

  def open(self, path):
    return self.files.setdefault(path, _File())


@pytest.fixture
def bucket(monkeypatch):
  registry = importlib.import_module('fsspec.registry')._registry
  for name in _Bucket.protocol:
    monkeypatch.setitem(registry, name, _Bucket)
  monkeypatch.setattr(_Bucket, 'store', {})
  monkeypatch.setattr(_Bucket, 'pseudo_dirs', [''])
  monkeypatch.setattr(_Events, 'files', {})
  factories = tensorboardX.record_writer.REGISTERED_FACTORIES
  monkeypatch.setitem(factories, 'gs', _Events())
  cache = backend.fsspec_backend._get_filesystem
  cache.cache_clear()
  yield epath.Path('gs://bucket/run')
  cache.cache_clear()


def test_all_that_a_run_reports_is_on_the_bucket(bucket, capsys):
  workdir = checkpoint.open_workdir('gs://bucket/run')
  assert str(workdir) == 'gs://bucket/run'
  assert reporting.finished_step(workdir) is None
  with reporting.Reporter(workdir, [], 0, True) as report:
    report.begin()
    for step in (1, 2):
      entry = {'step': step, 'epoch': step / 10, 'loss': 1.5, 'top1': 0.25}
      report.add(entry)
    report.finish(
      {
        'step': 2,
        'test_top1': 0.5,
        'test_top1_ema': 0.5,
        'test_examples': 4,
        'seconds': 1.0,
      },
      'title',
    )
    report.conclude()
  assert reporting.finished_step(workdir) == 2
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [1, 2]
  assert (workdir / 'curves.png').read_bytes().startswith(b'\x89PNG')
  assert sorted(path.name for path in workdir.iterdir()) == [
    *('curves.png', 'metrics.jsonl', 'summary.json'),
  ]
  ((name, events),) = _Events.files.items()
  assert name.startswith('gs://bucket/run/tensorboard/')
  assert b'train/loss' in events.written
  assert 'gs://bucket/run/metrics.jsonl' in capsys.readouterr().out
  # A longer run takes the summary back.
  with reporting.Reporter(workdir, report.history[:1], 1, True) as report:
    report.begin()
  assert not (workdir / 'summary.json').exists()
  assert len((workdir / 'metrics.jsonl').read_text().splitlines()) == 1


def test_processes_see_what_the_first_wrote(bucket):
  agreement.check_shared(bucket, 'token')
  assert not _Bucket.store


def test_a_bucket_that_cannot_be_reached_is_said(bucket, monkeypatch):
  def refuse(self, path, **kwargs):
    raise RuntimeError('Anonymous caller does not have storage.objects.get')

  monkeypatch.setattr(_Bucket, 'exists', refuse)
  with pytest.raises(UserError, match='gs://bucket/run.*Anonymous caller'):
    checkpoint.open_workdir('gs://bucket/run')


def test_the_missing_package_is_named(bucket, monkeypatch):
  def missing(self, path, **kwargs):
    raise ImportError('install gcsfs')

  monkeypatch.setattr(_Bucket, 'exists', missing)
  with pytest.raises(UserError, match='pip install .*epath-gcs'):
    checkpoint.open_workdir('gs://bucket/run')


def test_the_package_of_the_events_is_named(bucket, monkeypatch):
  def missing(path):
    raise ImportError('`google-cloud-storage` must be installed')

  monkeypatch.setattr(_Events, 'open', staticmethod(missing))
  report = reporting.Reporter(bucket, [], 0, True)
  with pytest.raises(UserError, match='pip install google-cloud-storage'):
    report.begin()
