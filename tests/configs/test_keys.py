"""The keys that code reads, by its syntax trees, against those of configs."""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from effnet_jax.training import resume

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module', autouse=True)
def _configs_are_importable():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))  # as train.py has it
    yield


@functools.cache
def _base():
  return importlib.import_module('configs.base').get_config()


def _keys(config):
  """Dotted keys of all leaves."""
  keys = set()
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      keys |= {f'{key}.{k}' for k in _keys(value)}
    else:
      keys.add(key)
  return keys


METHODS = {name for name in dir(ConfigDict) if not name.startswith('_')}


class _Reads(ast.NodeVisitor):
  """Collects dotted keys read from a config, through local aliases.

  A config is a name `config` or an attribute `.config` (`self.config`);
  `data = config.data`, also within a tuple, makes `data` an alias in that
  function. `.items()` of a section reads all of it. `config.data[key]` with a
  variable key is not followed: ConfigDict itself refuses an unknown one.
  """

  def __init__(self):
    self.reads: dict[str, str] = {}
    self.file = ''
    self._aliases: list[dict[str, str]] = [{}]

  def _path(self, node):
    """The dotted path a node stands for: '' is the config; else None."""
    if isinstance(node, ast.Name):
      return self._aliases[-1].get(node.id, '' if node.id == 'config' else None)
    if isinstance(node, ast.Attribute):
      parent = self._path(node.value)
      if parent is not None:
        return f'{parent}.{node.attr}'.lstrip('.')
      if node.attr == 'config' and ast.unparse(node) != 'jax.config':
        return ''
    if isinstance(node, ast.Subscript):
      parent, key = self._path(node.value), node.slice
      if parent is not None and isinstance(key, ast.Constant):
        return f'{parent}.{key.value}'.lstrip('.')
    return None

  def _read(self, node):
    path = self._path(node)
    if path:
      *section, last = path.split('.')
      if last in METHODS:
        whole = section and last in ('items', 'values')
        path = '.'.join(section) + '.*' if whole else ''
      if path:
        self.reads.setdefault(path, f'{self.file}:{node.lineno}')

  def visit_FunctionDef(self, node):
    self._aliases.append(dict(self._aliases[-1]))
    for argument in (*node.args.args, *node.args.kwonlyargs):
      self._aliases[-1].pop(argument.arg, None)  # hides an outer alias
    self.generic_visit(node)
    self._aliases.pop()

  def visit_Assign(self, node):
    for target in node.targets:
      pairs = [(target, node.value)]
      if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        pairs = zip(target.elts, node.value.elts, strict=True)
      for name, value in pairs:
        path = self._path(value)
        if isinstance(name, ast.Name) and path and _is_section(path):
          self._aliases[-1][name.id] = path
    self.generic_visit(node)

  def visit_Attribute(self, node):
    self._read(node)
    if self._path(node) is None:  # else its parts are no reads of their own
      self.generic_visit(node)

  def visit_Subscript(self, node):
    self._read(node)
    self.generic_visit(node)


def _is_section(path):
  try:
    value = functools.reduce(getattr, path.split('.'), _base())
  except AttributeError:
    return False
  return isinstance(value, ConfigDict)


def _reads(*sources):
  """Keys read by (name, source text) pairs -> where."""
  visitor = _Reads()
  for visitor.file, text in sources:
    visitor.visit(ast.parse(text))
  return {
    key: where for key, where in visitor.reads.items() if not _is_section(key)
  }


def _package():
  files = [ROOT / 'train.py', *sorted((ROOT / 'effnet_jax').rglob('*.py'))]
  return [(str(f.relative_to(ROOT)), f.read_text()) for f in files]


def _covers(read, key):
  return key == read or (
    read.endswith('.*') and key.startswith(read.removesuffix('*'))
  )


def test_reads_are_found_through_aliases():
  text = inspect.cleandoc("""
    def f(config, other):
      data, n = config.data, config.seed
      data.path, data['name'], other.config.optimizer.epsilon
      config.model.overrides.items(), config.to_dict()
      config.log.evry = 1
      def g(data):
        return data.shape
  """)
  assert set(_reads(('f.py', text))) == {
    'seed',
    'data.path',
    'data.name',
    'optimizer.epsilon',
    'model.overrides.*',
    'log.evry',
  }


def test_every_key_that_is_read_exists():
  keys = _keys(_base())
  unknown = {
    read: where
    for read, where in _reads(*_package()).items()
    if not any(_covers(read, key) for key in keys)
  }
  assert not unknown


def test_every_key_is_read():
  reads = _reads(*_package())
  unread = {
    key for key in _keys(_base()) if not any(_covers(r, key) for r in reads)
  }
  assert not unread


def test_no_read_has_a_default():
  # `config.get('x', 1)` would hide a key from whoever reads the config.
  for name, text in _package():
    assert not re.search(r'\bconfig(\.\w+)*\.get\(', text), name


def test_what_may_change_on_resuming_are_keys():
  sections = {key.split('.')[0] for key in _keys(_base())}
  known = {*_keys(_base()), *sections}
  assert set(resume._MAY_CHANGE) <= known
  # They are compared as prefixes, which must not reach another key.
  for key in _keys(_base()):
    for prefix in resume._MAY_CHANGE:
      if key.startswith(prefix):
        assert key == prefix or key.startswith(prefix + '.')
