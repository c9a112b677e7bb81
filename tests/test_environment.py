"""What a process is given before JAX starts, in processes of their own."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from effnet_jax import environment

ROOT = Path(__file__).parents[1]
LINUX = sys.platform == 'linux'
CHOSEN = ('GLIBC_TUNABLES', 'JAX_', 'MALLOC_', 'XDG_', environment.SWITCH)

# Prints what the process has in the end, and how often it was started.
PROGRAM = """
import json, os, sys
from effnet_jax import environment
with open(os.environ['STARTS'], 'a') as file:
  file.write(f'{os.getpid()}\\n')
environment.tune_malloc()
print(json.dumps({
  'argv': sys.argv[1:],
  'flags': [sys.flags.dev_mode, sys.flags.optimize],
  'tunables': os.environ.get('GLIBC_TUNABLES'),
  'jax': 'jax' in sys.modules,
}))
"""


def _environ(**variables):
  """This process's, without anything that counts here, but for `variables`."""
  plain = {k: v for k, v in os.environ.items() if not k.startswith(CHOSEN)}
  return {**plain, 'PYTHONPATH': str(ROOT), **variables}


def _run(command, **variables):
  return subprocess.run(
    [sys.executable, *command],
    cwd=ROOT,
    env=_environ(**variables),
    capture_output=True,
    text=True,
    check=True,
  )


@pytest.fixture
def tuned(tmp_path):
  """Runs PROGRAM; returns what it printed, its log and its process ids."""
  (tmp_path / 'program.py').write_text(PROGRAM)

  def run(*arguments, command=None, **variables):
    starts = tmp_path / 'starts'
    starts.unlink(missing_ok=True)
    # As `python -m effnet_jax` finds the package: by its name.
    variables = {'JAX_PLATFORMS': 'cpu', **variables, 'STARTS': str(starts)}
    if 'PYTHONPATH' not in variables:
      variables['PYTHONPATH'] = f'{ROOT}{os.pathsep}{tmp_path}'
    command = command or [str(tmp_path / 'program.py')]
    done = _run([*command, *arguments], **variables)
    processes = starts.read_text().split()
    return json.loads(done.stdout), done.stderr, processes

  return run


needs_glibc = pytest.mark.skipif(
  not environment._has_glibc(), reason='this is not Linux with glibc'
)


@needs_glibc
def test_a_program_starts_again_once(tuned):
  found, log, processes = tuned('--config=a b', '')
  assert found['tunables'] == environment.MALLOC
  assert found['argv'] == ['--config=a b', '']
  assert len(processes) == 2 and len(set(processes)) == 1  # signals find it
  assert log.count('\n') == 1 and f'{environment.SWITCH}=0' in log
  assert not found['jax']


@needs_glibc
def test_flags_of_python_and_modules_are_kept(tuned):
  found, _, processes = tuned(
    'a', command=['-X', 'dev', '-OO', '-m', 'program']
  )
  assert found['flags'] == [True, 2]
  assert found['argv'] == ['a']
  assert len(processes) == 2


@needs_glibc
def test_it_ends_even_where_the_variable_gets_lost(tuned, tmp_path):
  # Run by Python before the program, as a wrapper of it may do.
  (tmp_path / 'sitecustomize.py').write_text(
    'import os\nos.environ.pop("GLIBC_TUNABLES", None)\n'
  )
  found, _, processes = tuned()
  assert found['tunables'] is None
  assert len(processes) == 2


@pytest.mark.parametrize(
  'variables',
  [
    {environment.SWITCH: '0'},
    {'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=7'},
    {'GLIBC_TUNABLES': ''},
    {'MALLOC_ARENA_MAX': '2'},
    {'JAX_PLATFORMS': 'cuda,cpu'},
    {'JAX_PLATFORMS': 'tpu'},
  ],
  ids=str,
)
def test_what_the_user_has_chosen_stays(tuned, variables):
  found, log, processes = tuned(**variables)
  assert found['tunables'] == variables.get('GLIBC_TUNABLES')
  assert log == '' and len(processes) == 1


@needs_glibc
def test_a_plugin_for_other_devices_is_respected(tuned, tmp_path):
  # What jax[cuda12] installs: a package in the namespace jax_plugins.
  plugin = tmp_path / 'jax_plugins' / 'xla_cuda12'
  plugin.mkdir(parents=True)
  (plugin / '__init__.py').write_text('')
  assert len(tuned(JAX_PLATFORMS='')[2]) == 1
  assert len(tuned(JAX_PLATFORMS='cpu')[2]) == 2


@needs_glibc
def test_a_tpu_is_its_library_and_its_device(monkeypatch, tmp_path):
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setattr(
    environment.importlib.metadata, 'entry_points', lambda **_: ()
  )
  for library in (False, True):
    for device in (False, True):
      monkeypatch.setattr(
        environment.importlib.util,
        'find_spec',
        lambda name, found=library: found and name == 'libtpu' or None,
      )
      pattern = '*' if device else 'nothing*'
      (tmp_path / 'accel0').touch()
      monkeypatch.setattr(environment, '_TPU', (str(tmp_path / pattern),))
      assert environment._cpu_trains() != (library and device)


def test_the_makefile_sets_the_same():
  makefile = (ROOT / 'Makefile').read_text().replace('$\\\n  ', '')
  assert f'"$${{GLIBC_TUNABLES-{environment.MALLOC}}}"' in makefile


def test_other_systems_are_left_alone(monkeypatch):
  def started(*_):
    raise AssertionError('started again')

  monkeypatch.setattr(os, 'execve', started)
  for variable in ('GLIBC_TUNABLES', environment.SWITCH):
    monkeypatch.delenv(variable, raising=False)
  for variable in [v for v in os.environ if v.startswith('MALLOC_')]:
    monkeypatch.delenv(variable)
  monkeypatch.setattr(environment.sys, 'platform', 'darwin')
  environment.tune_malloc()
  monkeypatch.setattr(environment.sys, 'platform', 'linux')
  monkeypatch.setattr(environment.platform, 'libc_ver', lambda: ('', ''))
  environment.tune_malloc()  # musl
  monkeypatch.setattr(
    environment.platform, 'libc_ver', lambda: ('glibc', '2.36')
  )
  with pytest.raises(AssertionError, match='started again'):
    environment.tune_malloc()


def test_importing_does_nothing():
  code = (
    'import json, os\n'
    'before = dict(os.environ)\n'
    'import effnet_jax, effnet_jax.cli, effnet_jax.environment\n'
    'same = before == dict(os.environ)\n'
    'effnet_jax.create_model\n'
    'import jax\n'
    'print(json.dumps([same, jax.config.jax_compilation_cache_dir]))'
  )
  done = _run(['-c', code], JAX_PLATFORMS='cpu')
  assert json.loads(done.stdout) == [True, None]
  assert done.stderr == ''


# What malloc keeps.

# Prints which share of a large block stays with the process after its end.
FREE = """
import ctypes, os, sys
from pathlib import Path
from effnet_jax import environment
if sys.argv[1:] == ['keep']:
  environment.keep_freed_pages()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 2**26
def resident():
  pages = int(Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE')
before = resident()
block = libc.malloc(ctypes.c_size_t(size))
ctypes.memset(block, 1, size)
libc.free(ctypes.c_void_p(block))
print((resident() - before) / size)
"""


def _kept(*arguments, **variables):
  return float(_run(['-c', FREE, *arguments], **variables).stdout)


@needs_glibc
def test_freed_pages_are_kept():
  assert _kept() < 0.1
  assert _kept('keep') > 0.9


@needs_glibc
@pytest.mark.parametrize(
  'variables',
  [
    {environment.SWITCH: '0'},
    {'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=7'},
    {'MALLOC_ARENA_MAX': '2'},
  ],
  ids=str,
)
def test_freed_pages_go_where_the_user_wants_it_so(variables):
  assert _kept('keep', **variables) < 0.1


# The compilation cache.

COMPILE = """
from effnet_jax import environment
environment.keep_compiled()
import jax
import jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(
  lambda name, **_: hits.append(name.rpartition('/')[-1])
)
assert jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).shape == (3, 3)
print(jax.config.jax_compilation_cache_dir, hits.count('cache_hits'))
"""


def _compile(**variables):
  done = _run(['-W', 'error', '-c', COMPILE], JAX_PLATFORMS='cpu', **variables)
  directory, hits = done.stdout.split()
  return directory, int(hits)


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
  kept = tmp_path / 'effnet_jax' / 'compiled'
  cache = {'XDG_CACHE_HOME': str(tmp_path)}
  first, hits = _compile(**cache)
  assert Path(first).parent == kept and hits == 0
  # One for every jaxlib and processor.
  assert Path(first).name.startswith(importlib.metadata.version('jaxlib'))
  assert kept.stat().st_mode & 0o77 == 0
  directory, hits = _compile(**cache)
  assert directory == first and hits > 0
  # JAX's own switch.
  assert _compile(**cache, JAX_ENABLE_COMPILATION_CACHE='0')[1] == 0


def test_the_users_own_cache_is_left_to_them(monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')  # off
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  before = dict(os.environ)
  environment.keep_compiled()
  assert dict(os.environ) == before and not any(tmp_path.iterdir())


@pytest.fixture
def cache_variables(monkeypatch):
  for name in (
    'JAX_COMPILATION_CACHE_DIR',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
    'XDG_CACHE_HOME',
  ):
    # Set first, so that what a test sets is undone.
    monkeypatch.setenv(name, '')
    monkeypatch.delenv(name)
  return monkeypatch


def test_the_cache_is_where_caches_are(cache_variables, tmp_path):
  cache_variables.setenv('HOME', str(tmp_path))
  environment.keep_compiled()
  expected = tmp_path / '.cache' / 'effnet_jax' / 'compiled'
  directory = Path(os.environ['JAX_COMPILATION_CACHE_DIR'])
  assert directory.parent == expected and directory.is_dir()


def test_a_directory_that_others_may_write_is_left_alone(
  cache_variables, tmp_path
):
  directory = tmp_path / 'effnet_jax' / 'compiled'
  directory.mkdir(parents=True)
  directory.chmod(0o777)
  cache_variables.setenv('XDG_CACHE_HOME', str(tmp_path))
  environment.keep_compiled()
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


def test_no_place_to_write_is_no_cache(cache_variables, tmp_path):
  (tmp_path / 'file').touch()
  cache_variables.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  environment.keep_compiled()
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ
  cache_variables.setenv('XDG_CACHE_HOME', str(tmp_path))
  # Root may write anywhere: asked for, not tried.
  cache_variables.setattr(os, 'access', lambda *_: False)
  environment.keep_compiled()
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


def test_those_longest_unread_go_first(cache_variables, tmp_path):
  directory = tmp_path / 'effnet_jax' / 'compiled' / 'of another processor'
  directory.mkdir(parents=True)
  for name, size, written, read in (
    ('old', 30, 1000, 1000),
    ('read lately', 30, 1000, 4000),
    ('older', 30, 500, 500),
    ('new', 30, 3000, 3000),
  ):
    (directory / name).write_bytes(bytes(size))
    os.utime(directory / name, (read, written))
  cache_variables.setenv('XDG_CACHE_HOME', str(tmp_path))
  cache_variables.setattr(environment, 'CACHE_BYTES', 70)
  environment.keep_compiled()
  assert {p.name for p in directory.iterdir()} == {'read lately', 'new'}


def test_the_programs_say_how_to_turn_it_off():
  done = _run(['train.py', '--help'])
  assert f'{environment.SWITCH}=0' in done.stdout
  assert 'JAX_ENABLE_COMPILATION_CACHE=0' in done.stdout
