"""Who may import whom in effnet_jax, read from the source files.

A module may import what lies in a lower layer; within its own layer, modules
of its own room (the first name after `effnet_jax`). Imports inside functions
count as any other.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'effnet_jax'

# The longest name that fits a module places it: `weights.export` before
# `weights`. `<room>.commands` are in the last layer whatever the room.
LAYERS = (
  (
    'errors',
    'environment',
    'models.scaling',
    'models.spec',
    'models.variants',
    'models.macs',
    'models.published',
  ),
  ('models', 'data', 'progress'),
  (
    'weights',
    'training.attack',
    'training.mixing',
    'training.schedules',
    'training.early_stopping',
    'training.groups',
    'training.optimizer',
    'training.objectives',
    'training.state',
    'training.metrics',
  ),
  ('training.step',),
  (
    'training.stages',
    'training.guards',
    'training.meeting',
    'training.parallel',
    'training.lock',
    'training.damage',
    'training.checkpoint',
    'training.reporting',
    'evaluation',
    'inference',
  ),
  ('pretrained', 'labelling'),
  # The loop and its parts: what knows config, data, model and step together.
  (
    'training.agreement',
    'training.auto_splits',
    'training.initial',
    'training.inputs',
    'training.program',
    'training.resume',
    'training.loop',
  ),
  # `flags` is the one function by which train.py and the commands read theirs;
  # `arguments` the parser of the commands that take no config, and
  # `model_arguments` what many of them have.
  (
    'weights.export',
    'search',
    'analysis',
    'evaluation.measuring',
    'evaluation.robustness',
    'evaluation.robustness_options',
    'evaluation.run_data',
    'sweep',
    'flags',
    'arguments',
    'model_arguments',
  ),
  ('cli', '__main__'),
)
LAYER_OF = {name: i for i, names in enumerate(LAYERS) for name in names}
COMMANDS = len(LAYERS) - 1
CONFIG_LAYER = LAYER_OF['training.loop']  # the lowest that knows ConfigDict

# What no layer says. Of the package: names without `effnet_jax.`.
FORBIDDEN = {
  'models': ('data', 'training'),
  'data': ('models', 'training', 'jax', 'jaxlib', 'flax', 'optax'),
  'training.step': ('models', 'data', 'configs', 'ml_collections'),
}
# Reading foreign weights knows the network and nothing else of the package.
READING_WEIGHTS = ('errors', 'models', 'weights')

OPTIONAL = {
  *('tensorflow', 'torch', 'keras', 'onnx', 'onnxruntime', 'optuna'),
  *('matplotlib', 'sklearn', 'huggingface_hub'),
}
DEVICE_NAMES = {
  *('pmap', 'process_index', 'process_count', 'devices', 'local_devices'),
  *('device_count', 'local_device_count'),
}
MAX_LINES = 350


def _name(path):
  """`models.spec` of effnet_jax/models/spec.py, '' of the package itself."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def _imports(tree, top_level=False):
  """Full names of everything imported: `from a import b` is a.b.

  With `top_level` only what importing the module itself runs.
  """
  found = set()
  nodes = [tree]
  while nodes:
    node = nodes.pop()
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if not (top_level and function):
      nodes += ast.iter_child_nodes(node)
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      prefix = '.' * node.level + (node.module or '')
      found |= {f'{prefix}.{alias.name}' for alias in node.names}
  return found


def _within(name, parent):
  return name == parent or name.startswith(f'{parent}.')


def _inside(tree):
  """The modules of the package that a tree imports, as in `MODULES`."""
  names = set()
  for name in _imports(tree):
    if _within(name, 'effnet_jax'):
      name = name.removeprefix('effnet_jax').removeprefix('.')
      # The last name may be a function or a class of the module.
      names.add(name if name in MODULES else name.rpartition('.')[0])
  return names


def _layer(name):
  if name.endswith('.commands'):
    return COMMANDS
  while name not in LAYER_OF and '.' in name:
    name = name.rpartition('.')[0]
  return LAYER_OF.get(name)


def _may_import(importer, imported):
  if _within(imported, 'errors'):
    return True
  if not imported:  # public names of effnet_jax hide where they come from
    return False
  if importer == 'cli' and imported.endswith('.commands'):  # it dispatches
    return True
  if (importer, imported) == ('__main__', 'cli'):
    return True
  mine, theirs = _layer(importer), _layer(imported)
  same_room = importer.partition('.')[0] == imported.partition('.')[0]
  return theirs < mine or (theirs == mine and same_room)


def _is_placed(name):
  # A package whose __init__ imports nothing needs no place.
  bare = MODULES[name].name == '__init__.py' and not _imports(TREES[name])
  return _layer(name) is not None or bare


def test_every_module_has_a_place():
  lost = [name for name in MODULES if not _is_placed(name) and name]
  assert not lost, f'place {lost} in LAYERS, as DESIGN.md has its layers'


def test_layers():
  wrong = [
    f'{importer} ({_layer(importer)}) imports {imported} ({_layer(imported)})'
    for importer, tree in TREES.items()
    for imported in sorted(_inside(tree))
    if _is_placed(importer) and importer
    if not (_is_placed(imported) and _may_import(importer, imported))
  ]
  assert not wrong


def test_importing_the_package_imports_none_of_it():
  assert not _inside(TREES[''])


def test_imports_are_absolute():
  relative = [
    name
    for name, tree in TREES.items()
    if any(imported.startswith('.') for imported in _imports(tree))
  ]
  assert not relative


@pytest.mark.parametrize('importer', FORBIDDEN)
def test_what_the_layers_do_not_say(importer):
  wrong = [
    f'{name} imports {imported}'
    for name, tree in TREES.items()
    if _within(name, importer) and not name.endswith('.commands')
    for imported in _imports(tree)
    for forbidden in FORBIDDEN[importer]
    if _within(imported.removeprefix('effnet_jax.'), forbidden)
  ]
  assert not wrong


def test_reading_weights_knows_models_only():
  wrong = [
    f'{name} imports {imported}'
    for name, tree in TREES.items()
    if _within(name, 'weights') and _layer(name) == LAYER_OF['weights']
    for imported in _inside(tree)
    if not any(_within(imported, known) for known in READING_WEIGHTS)
  ]
  assert not wrong


def test_configs_stay_above():
  for name, tree in TREES.items():
    for imported in _imports(tree):
      assert not _within(imported, 'configs'), name
      if _within(imported, 'ml_collections'):
        assert (_layer(name) or 0) >= CONFIG_LAYER, name


def test_layer_0_needs_the_standard_library_only():
  for name, tree in TREES.items():
    if name == '' or _layer(name) == 0:
      for imported in _imports(tree):
        root = imported.partition('.')[0]
        assert root == 'effnet_jax' or root in sys.stdlib_module_names, name


def _device_names(tree):
  attributes = {
    node.attr
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
    and isinstance(node.value, ast.Name)
    and node.value.id == 'jax'
  }
  imported = {
    name.removeprefix('jax.')
    for name in _imports(tree)
    if name.startswith('jax.')
  }
  return (attributes | imported) & DEVICE_NAMES


def test_devices_and_processes_are_known_to_parallel_alone():
  wrong = {
    name: found
    for name, tree in TREES.items()
    if name != 'training.parallel' and (found := _device_names(tree))
  }
  assert not wrong


def test_optional_packages_are_imported_where_they_are_used():
  wrong = [
    f'{name} imports {imported} at its top'
    for name, tree in TREES.items()
    for imported in _imports(tree, top_level=True)
    if imported.partition('.')[0] in OPTIONAL
  ]
  assert not wrong


def test_every_module_says_what_it_is():
  silent = [
    name
    for name, tree in TREES.items()
    if tree.body and not ast.get_docstring(tree)
  ]
  assert not silent


def test_files_are_short():
  lines = {
    name: len(path.read_text().splitlines()) for name, path in MODULES.items()
  }
  long = {name: count for name, count in lines.items() if count > MAX_LINES}
  assert not long, f'past {MAX_LINES} lines, split: {long}'


def _loaded_after(module, packages):
  code = (
    f'import json, sys, {module}; '
    f'print(json.dumps([p for p in {sorted(packages)!r} if p in sys.modules]))'
  )
  run = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  return json.loads(run.stdout.splitlines()[-1])


def test_importing_the_package_is_cheap():
  heavy = OPTIONAL | {'tensorflow_datasets', 'jax', 'flax', 'numpy'}
  assert _loaded_after('effnet_jax', heavy) == []


@pytest.mark.skipif('training.loop' not in MODULES, reason='not built yet')
def test_training_loads_no_other_framework():
  loaded = _loaded_after('effnet_jax.training.loop', OPTIONAL | {'jax'})
  assert loaded == ['jax']


# The reading of the sources itself.


def test_imports_are_found_wherever_they_stand():
  tree = ast.parse(
    'import a.b as c\n'
    'from d import e, f\n'
    'try:\n  import torch\nexcept ImportError:\n  pass\n'
    'class C:\n  import g\n  def m(self):\n    from . import h\n'
    'async def i():\n  import j\n'
  )
  outside = {'a.b', 'd.e', 'd.f', 'torch', 'g'}
  assert _imports(tree) == outside | {'..h', 'j'}
  assert _imports(tree, top_level=True) == outside


def test_names_resolve_to_modules():
  tree = ast.parse(
    'import effnet_jax.models.spec\n'
    'from effnet_jax import errors, create_model\n'
    'from effnet_jax.models import macs\n'
    'from effnet_jax.models.variants import get_spec\n'
  )
  assert _inside(tree) == {
    *('models.spec', 'errors', '', 'models.macs', 'models.variants')
  }


@pytest.mark.parametrize(
  'importer, imported, allowed',
  [
    ('data.pipeline', 'errors', True),
    ('models.spec', 'models.scaling', True),
    ('models.spec', 'models.blocks', False),
    ('models.blocks', 'data.sources', False),
    ('data.sources', 'models.spec', True),  # by layers; FORBIDDEN says no
    ('training.optimizer', 'training.schedules', True),
    ('training.optimizer', 'training.step', False),
    ('training.checkpoint', 'evaluation.accuracy', False),
    ('weights.export.onnx', 'training.loop', True),
    ('weights.names', 'training.loop', False),
    ('weights.commands', 'cli', False),
    ('cli', 'weights.commands', True),
    ('weights.commands', 'search.commands', False),
    ('weights.commands', 'flags', True),
    ('training.loop', 'flags', False),
    ('analysis.latency', 'search.study', False),
    ('training.commands', 'training.loop', True),
    ('models.blocks', '', False),
  ],
)
def test_the_rule(importer, imported, allowed):
  assert _may_import(importer, imported) == allowed


def test_devices_are_found():
  tree = ast.parse('import jax\nfrom jax import pmap\nn = jax.device_count()\n')
  assert _device_names(tree) == {'pmap', 'device_count'}
  assert not _device_names(ast.parse('for d in mesh.devices: pass'))
