"""Four CPU devices for every test, set before JAX starts."""

import atexit
import os
import shutil
import tempfile

os.environ['JAX_NUM_CPU_DEVICES'] = '4'
os.environ['JAX_PLATFORMS'] = 'cpu'
# Tests compile much and compute little: LLVM's passes cost more than they save.
os.environ['XLA_FLAGS'] = (
  f'--xla_backend_optimization_level=0 {os.environ.get("XLA_FLAGS", "")}'
)
os.environ['MPLBACKEND'] = 'Agg'  # no window for a plot
# No second start of every train.py; tests/test_environment.py has it.
os.environ['EFFNET_JAX_TUNE'] = '0'

# Many tests train the same small network: what one process of the test run has
# compiled, the others (and the processes that tests start) read from here.
if 'EFFNET_TEST_CACHE' not in os.environ:
  os.environ['EFFNET_TEST_CACHE'] = tempfile.mkdtemp(prefix='effnet_jax_')
  atexit.register(
    shutil.rmtree, os.environ['EFFNET_TEST_CACHE'], ignore_errors=True
  )
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.environ['EFFNET_TEST_CACHE']
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'

# The rooms that take longest: begun first, no worker is left alone with one.
_LONGEST = ('end_to_end', 'training', 'multiprocess', 'benchmarks')


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: not any(x in item.path.parts for x in _LONGEST))
