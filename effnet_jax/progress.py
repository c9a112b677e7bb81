"""How far a command has come, on stderr, once that is worth saying."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import tqdm

_PATIENCE = 3  # seconds before anything is shown
_INTERVAL = 30  # seconds between lines where nobody is watching
_BAR = (
  '{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} '
  '[{elapsed}<{remaining}, {rate_noinv_fmt}]'
)


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], object]]:
  """Shows images done, images a second and the time left.

  A bar where stderr is a terminal, else a line now and then, for logs.

  Yields:
    A function to be called with the number of images that were done.

  Example:
    >>> with progress(len(files), 'reading') as advance:
    ...   advance(1)
  """
  if sys.stderr.isatty():
    bar = tqdm.tqdm(
      total=total,
      desc=what,
      unit=' images',
      delay=_PATIENCE,
      leave=False,
      bar_format=_BAR,
    )
    with bar:
      yield bar.update
    return
  done, begun = 0, time.monotonic()
  spoken = begun

  def advance(count: int) -> None:
    nonlocal done, spoken
    done += count
    now = time.monotonic()
    if now - spoken < _INTERVAL or done >= total:
      return
    spoken = now
    rate = done / (now - begun)
    left = tqdm.tqdm.format_interval((total - done) / rate)
    print(
      f'{what}: {done:,} of {total:,} images, {rate:.1f} images/s, {left} left',
      file=sys.stderr,
      flush=True,
    )

  yield advance


def say(text: str) -> None:
  """Prints a result, above a bar that is being shown."""
  tqdm.tqdm.write(text, file=sys.stdout)
