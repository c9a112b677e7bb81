"""What fits where a training step does not: fewer images, or remat."""

from collections.abc import Callable

from effnet_jax.analysis.compile_check import Check
from effnet_jax.models.efficientnet import REMAT


def ways_out(found: Check, measure: Callable[..., Check]) -> list[Check]:
  """Compiles what may fit where a step does not.

  Args:
    found: of the step that does not fit.
    measure: (batch_per_chip=None, remat=None) -> its check.

  Returns:
    The largest batch that fits, then the same batch with rematerialisation, by
    block and, if that does not fit either, by stage; the last may not fit.
  """
  batch = largest_batch(lambda images: measure(batch_per_chip=images), found)
  ways = [batch] if batch else []
  for remat in REMAT[REMAT.index(found.remat) + 1 :]:
    ways.append(measure(remat=remat))
    if ways[-1].fits:
      break
  return ways


def largest_batch(
  measure: Callable[[int], Check], check: Check, tries: int = 3
) -> Check | None:
  """Finds the largest batch per chip that fits, from a check that does not.

  The peak of the batch given and of half of it make a line; where it meets the
  chip's memory is compiled, to confirm it. Where that says no (the line is not
  quite one), it is a new point of the line, and the next try a little below.

  Args:
    measure: of a batch per chip, the check.
    check: of a batch that does not fit.
    tries: confirming compiles at most.

  Returns:
    The check of the largest batch found; None if none was.
  """
  if check.batch_per_chip < 2:
    return None
  high, low = check, measure(check.batch_per_chip // 2)
  if low.batch_per_chip >= high.batch_per_chip:  # whole parts allow no half
    return None
  best, below = (low if low.fits else None), check.batch_per_chip
  for _ in range(tries):
    batch = max(min(_where_full(low, high), below - 1), 1)
    if best and batch <= best.batch_per_chip:
      break
    found = measure(batch)
    if found.fits:
      return found
    if found.batch_per_chip >= below:  # whole parts allow no less
      break
    below = int(0.97 * found.batch_per_chip)
    if below < 2:
      break
    if found.batch_per_chip != low.batch_per_chip:
      low, high = sorted((low, found), key=lambda check: check.batch_per_chip)
  return best


def _where_full(low, high):
  """The batch at which a line through two checks meets the memory."""
  if low.peak_bytes is None or high.peak_bytes is None:
    return low.batch_per_chip // 2
  images = high.batch_per_chip - low.batch_per_chip
  slope = (high.peak_bytes - low.peak_bytes) / images
  if slope <= 0:
    return low.batch_per_chip // 2
  room = min(low.hbm_bytes, high.hbm_bytes) - low.peak_bytes
  return low.batch_per_chip + int(room // slope)
