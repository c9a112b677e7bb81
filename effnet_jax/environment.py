"""What a process gets: pages of memory, and what was compiled before.

train.py and the commands call these, the predictor `keep_freed_pages`;
importing this module does nothing: a notebook's process is its owner's.
"""

import contextlib
import ctypes
import functools
import glob
import importlib.metadata
import importlib.util
import os
import platform
import sys
import zlib
from pathlib import Path

SWITCH = 'EFFNET_JAX_TUNE'
# XLA's temporaries come from malloc, at every step anew. These keep the pages
# that the process has, and ask for huge ones; glibc reads them as it starts.
# One arena, for those of other threads give their pages back whatever is said;
# it grows by 256 MiB: by less, it would leave holes that nothing fits in.
# All threads share its lock. That was measured on two cores; on many it should
# be little as well (an estimate): small blocks lie ready with each thread, XLA
# takes large ones once an operation, and at most 16 threads read data. Of more
# arenas nothing would be kept where XLA's threads allocate.
MALLOC = (
  'glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:'
  'glibc.malloc.trim_threshold=100000000000:'
  'glibc.malloc.arena_max=1:glibc.malloc.top_pad=268435456'
)
CACHE_BYTES = 2**30  # B0's training takes 2 MB
_TPU = ('/dev/accel*', '/dev/vfio/*')


def tune_malloc() -> None:
  """Starts this program again, in an environment that trains faster on a CPU.

  The same process, interpreter, flags and arguments, and one line on stderr.
  A training step takes a half to two thirds of the time, and no more memory
  (benchmarks/huge_pages.py measures it, beside a device a core, which changes
  the numbers). It returns, and nothing happens, where

  - EFFNET_JAX_TUNE=0 is in the environment, as it is after the restart;
  - the environment already says anything about malloc;
  - this is not Linux with glibc;
  - the program came through a pipe, which is read by now;
  - training will not be on a CPU: JAX_PLATFORMS begins with something else, or
    is not set and there is a plugin of JAX for other devices, or a TPU.

  Where the kernel's transparent huge pages are off it still saves the freeing.
  """
  if (
    os.environ.get(SWITCH) == '0'
    or _malloc_is_chosen()
    or not _has_glibc()
    or not _cpu_trains()
    or not sys.executable
    or '-' in sys.orig_argv[1:]
  ):
    return
  print(
    f'starting again with huge pages for malloc ({SWITCH}=0: without)',
    file=sys.stderr,
  )
  sys.stdout.flush()
  sys.stderr.flush()
  # The switch too: should the variable get lost, this must not go on for ever.
  environment = {**os.environ, 'GLIBC_TUNABLES': MALLOC, SWITCH: '0'}
  os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


@functools.cache
def keep_freed_pages() -> None:
  """Lets malloc keep what is freed, in this process from now on.

  XLA's temporaries come from malloc at every call, and above 32 MB as fresh
  pages: a sixth of B4's time on an image. It holds for all that the process
  allocates, so that memory once used stays with it. Nothing happens where
  `tune_malloc` would do nothing for the first three of its reasons.
  """
  if os.environ.get(SWITCH) == '0' or _malloc_is_chosen() or not _has_glibc():
    return
  libc = ctypes.CDLL(None)
  for parameter, value in (
    (-4, 0),  # M_MMAP_MAX: none of its own mapping
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD, bytes, an int
    (-2, 2**26),  # M_TOP_PAD, bytes that the heap grows by
  ):
    libc.mallopt(parameter, value)


def cores() -> int:
  """Returns how many processor cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _malloc_is_chosen():
  return any(
    name == 'GLIBC_TUNABLES' or name.startswith('MALLOC_')
    for name in os.environ
  )


def _has_glibc():
  return sys.platform == 'linux' and platform.libc_ver()[0] == 'glibc'


def _cpu_trains():
  platforms = os.environ.get('JAX_PLATFORMS')
  if platforms:
    return platforms.split(',')[0] == 'cpu'
  plugins = (
    importlib.util.find_spec('jax_plugins')
    or importlib.metadata.entry_points(group='jax_plugins')
    # Also installed to compile for TPUs where there are none.
    or (
      importlib.util.find_spec('libtpu')
      and any(glob.glob(device) for device in _TPU)
    )
  )
  return not plugins


def keep_compiled() -> None:
  """Lets JAX, not yet imported, keep what it compiles for the next process.

  In effnet_jax/compiled of $XDG_CACHE_HOME or ~/.cache, apart for every jaxlib
  and kind of processor (a home may be many machines'), at most `CACHE_BYTES`
  there when a process starts, those longest unread deleted first. A directory
  of the user's choice (JAX_COMPILATION_CACHE_DIR) is left to them, as is
  JAX_ENABLE_COMPILATION_CACHE=0. Without a place to write nothing is kept.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  try:
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    kept = Path(base) / 'effnet_jax' / 'compiled'
    directory = kept / _jaxlib_and_processor()
    # Entries are run: nobody else may write there.
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    status = kept.stat()
  except (OSError, RuntimeError):  # no home
    return
  foreign = status.st_uid != os.getuid() or status.st_mode & 0o022
  if foreign or not os.access(directory, os.W_OK):
    return
  _delete_oldest(kept, CACHE_BYTES)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(directory)
  # The small functions of evaluation and prediction too: they add up.
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def _jaxlib_and_processor():
  """A name for what may run what was compiled here."""
  about = [platform.machine()]
  with contextlib.suppress(OSError):  # Linux alone has it
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    about += sorted({x for x in lines if x.startswith(('flags', 'model name'))})
  version = importlib.metadata.version('jaxlib')
  return f'{version}-{zlib.crc32(chr(10).join(about).encode()):08x}'


def _delete_oldest(directory, limit):
  """Deletes the entries longest unread until `limit` bytes are left.

  JAX's own limit needs a package, and a process that is killed between an entry
  and its time stamp leaves a directory to which JAX adds nothing any more.
  """
  entries = []
  for path in directory.glob('*/*'):
    with contextlib.suppress(OSError):  # another process was first
      status = path.stat()
      last = max(status.st_atime, status.st_mtime)
      entries.append((last, status.st_size, path))
  left = sum(size for _, size, _ in entries)
  for _, size, path in sorted(entries):
    if left <= limit:
      break
    with contextlib.suppress(OSError):  # another process was first
      path.unlink()
    left -= size
