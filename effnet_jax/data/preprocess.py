"""From a record's bytes to one image of the size that the network takes."""

import dataclasses
import io
from typing import Protocol, Self

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from effnet_jax.data import jpeg
from effnet_jax.data.resample import METHODS, Box, resize
from effnet_jax.errors import UserError, near_names

# Pillow's own bound, 89 million: a few kilobytes of PNG can claim billions.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485

_ORIENTATION = 0x0112  # EXIF's tag
_ATTEMPTS = 10  # TF's max_attempts: crops tried before the centre crop


class DecodeError(ValueError):
  """One record cannot be read or decoded.

  Attributes:
    name: the record: a file path, or `split[i]`.
    reason: what is wrong with it.
  """

  def __init__(self, name: str, reason: str):
    super().__init__(name, reason)  # both in args: it must survive pickling
    self.name, self.reason = name, reason

  def __str__(self) -> str:
    return f'{self.name}: {self.reason}'


class Evaluated(Protocol):
  """What a network's specification says of the images that it is shown."""

  @property
  def resolution(self) -> int: ...

  @property
  def resampling(self) -> str: ...

  @property
  def crop_padding(self) -> int | None: ...


@dataclasses.dataclass(frozen=True)
class Preprocess:
  """How an image becomes a square of `size` pixels.

  Attributes:
    size: side of the result, pixels.
    resampling: see resample.py.
    crop_area: (lowest, highest) share of the image that a training crop
      covers; None for no random crop: the whole image, resized.
    crop_aspect: (lowest, highest) width / height of a training crop.
    min_covered: share of the image that a training crop must cover at least;
      the official V1 code asks for .1 on top of `crop_area`.
    shift: in training, the resized image is moved by up to so many pixels each
      way, black moving in. For images too small to be cropped.
    flip: mirror left to right with probability one half, in training.
    crop_padding: in evaluation the centre crop has the side
      size / (size + crop_padding) of the image's short side; None takes the
      whole image, squashed to a square.
    exif_orientation: turn the image upright as its EXIF data says. The
      published ImageNet pipelines do not.
  """

  size: int
  resampling: str = 'tf1'
  crop_area: tuple[float, float] | None = (0.08, 1.0)
  crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
  min_covered: float = 0.1
  shift: int = 0
  flip: bool = True
  crop_padding: int | None = 32
  exif_orientation: bool = False

  @classmethod
  def of(cls, spec: Evaluated, *, exif_orientation: bool = False) -> Self:
    """Returns the preprocessing with which a network is evaluated."""
    return cls(
      spec.resolution,
      spec.resampling,
      crop_padding=spec.crop_padding,
      exif_orientation=exif_orientation,
    )

  def __post_init__(self):
    if self.size < 1:
      raise UserError(f'image size {self.size}: it must be at least 1 pixel')
    if self.resampling not in METHODS:
      near = near_names(self.resampling, METHODS)
      raise UserError(f'no resampling {self.resampling!r}: {near}')
    if self.crop_area is not None:
      if len(self.crop_area) != 2 or not (
        0 < self.crop_area[0] <= self.crop_area[1] <= 1
      ):
        raise UserError(
          f'crop_area {self.crop_area}: give (lowest, highest) within 0..1'
        )
    if len(self.crop_aspect) != 2 or not (
      0 < self.crop_aspect[0] <= self.crop_aspect[1]
    ):
      raise UserError(
        f'crop_aspect {self.crop_aspect}: give (lowest, highest) above 0'
      )
    if not 0 <= self.min_covered <= 1:
      raise UserError(f'min_covered {self.min_covered}: give 0..1')
    if not 0 <= self.shift < self.size:
      raise UserError(f'shift {self.shift}: give 0..{self.size - 1} pixels')
    if self.crop_padding is not None and self.crop_padding < 0:
      raise UserError(
        f'crop_padding {self.crop_padding}: 0 or more pixels, or None'
      )


def decode(
  image: bytes | np.ndarray,
  *,
  exif_orientation: bool = False,
  name: str = 'image',
) -> np.ndarray:
  """Decodes JPEG, PNG, WebP, BMP or GIF bytes, or completes an array.

  Grey becomes three equal channels, alpha is laid over white, 16 bits keep
  their upper byte (as in TF), an animation gives its first frame.

  Args:
    image: the encoded bytes, or uint8 [h, w] or [h, w, 1 or 3] RGB.
    exif_orientation: turn the image upright as its EXIF data says.
    name: what an error calls it.

  Returns:
    uint8 [h, w, 3], RGB.

  Raises:
    DecodeError: no image, a truncated one, or more than MAX_PIXELS pixels.
  """
  if isinstance(image, np.ndarray):
    return _complete(image, name)
  if not exif_orientation and _jpeg_shape(image, name):
    pixels = jpeg.decode(image)
    if pixels is not None:
      return pixels
  try:
    with Image.open(io.BytesIO(image)) as opened:
      width, height = opened.size
      if width * height > MAX_PIXELS:
        raise DecodeError(name, f'{width} x {height} pixels are too many')
      if exif_orientation and opened.format in ('JPEG', 'MPO'):
        upright = opened.getexif().get(_ORIENTATION, 1) == 1
        if upright and _jpeg_shape(image, name):
          pixels = jpeg.decode(image)
          if pixels is not None:
            return pixels
      return _decode_pillow(opened, exif_orientation)
  except DecodeError:
    raise
  except (Image.DecompressionBombError, Image.DecompressionBombWarning):
    raise DecodeError(name, f'more than {MAX_PIXELS:,} pixels') from None
  except UnidentifiedImageError:  # its text is the address of the buffer
    raise DecodeError(name, 'cannot be decoded: unknown format') from None
  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, ...
  except Exception as error:
    raise DecodeError(name, f'cannot be decoded: {error}') from error


def train_image(
  rng: np.random.Generator,
  image: bytes | np.ndarray,
  preprocess: Preprocess,
  *,
  name: str = 'image',
) -> np.ndarray:
  """A random crop, resized and perhaps mirrored.

  As in the official code, the evaluation crop takes the place of a random crop
  that was not found in ten attempts or that turned out the whole image.

  Args:
    rng: the only source of chance.
    image: encoded, or uint8 [h, w] or [h, w, 1 or 3].
    preprocess: how.
    name: what an error calls it.

  Returns:
    uint8 [size, size, 3], contiguous.

  Raises:
    DecodeError: as `decode`.
  """
  p = preprocess
  box, pixels, shape = None, None, None
  if isinstance(image, bytes) and not p.exif_orientation:
    shape = _jpeg_shape(image, name)
  if shape:  # the crop is drawn first: nothing below it need be decoded
    box = _train_box(rng, *shape, p)
    pixels = jpeg.decode_rows(image, box and box[0] + box[2])
  if pixels is None:
    pixels = decode(image, exif_orientation=p.exif_orientation, name=name)
  if not shape:
    box = _train_box(rng, *pixels.shape[:2], p)
  image = resize(pixels, (p.size, p.size), p.resampling, box=box)
  if p.shift:
    top, left = rng.integers(2 * p.shift + 1, size=2)
    image = cv2.copyMakeBorder(
      image, *[p.shift] * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    image = image[top : top + p.size, left : left + p.size]
  if p.flip and rng.random() < 0.5:
    image = cv2.flip(image, 1)
  return np.ascontiguousarray(image)


def _train_box(
  rng: np.random.Generator, height: int, width: int, preprocess: Preprocess
) -> Box | None:
  """The part that is shown in training; None: the whole image."""
  if preprocess.crop_area is None:
    return None
  box = random_crop(rng, height, width, preprocess)
  if box is None or box[2:] == (height, width):
    box = center_crop(height, width, preprocess)
  return box


def eval_image(image: np.ndarray, preprocess: Preprocess) -> np.ndarray:
  """The centre crop, resized: uint8 [h, w, 3] to uint8 [size, size, 3]."""
  p = preprocess
  box = center_crop(*image.shape[:2], p)
  return resize(image, (p.size, p.size), p.resampling, box=box)


def center_crop(height: int, width: int, preprocess: Preprocess) -> Box | None:
  """The evaluation crop (top, left, height, width); None: the whole image.

  Its side is size / (size + crop_padding) of the short side, in float32 as in
  the official code, where the last pixel can depend on it.
  """
  p = preprocess
  if p.crop_padding is None:
    return None
  share = np.float32(p.size / (p.size + p.crop_padding))
  side = max(1, int(share * np.float32(min(height, width))))
  return (height - side + 1) // 2, (width - side + 1) // 2, side, side


def random_crop(
  rng: np.random.Generator, height: int, width: int, preprocess: Preprocess
) -> Box | None:
  """Draws a crop as TF's sample_distorted_bounding_box, whole image as object.

  tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc. The aspect
  ratio is uniform, then the height is uniform among the whole numbers for
  which the area is within `crop_area`, then the corner.

  Returns:
    (top, left, height, width) in pixels, or None after ten failed attempts.
  """
  p = preprocess
  area = height * width
  low, high = p.crop_area[0] * area, p.crop_area[1] * area
  for _ in range(_ATTEMPTS):
    aspect = rng.uniform(*p.crop_aspect)
    crop = _crop_size(rng, height, width, aspect, low, high)
    if crop is None:
      continue
    # TF draws below `height - h`, so the last offset never comes up.
    top = rng.integers(height - crop[0]) if crop[0] < height else 0
    left = rng.integers(width - crop[1]) if crop[1] < width else 0
    if crop[0] * crop[1] >= p.min_covered * area:
      return int(top), int(left), *crop
  return None


def _crop_size(
  rng: np.random.Generator,
  height: int,
  width: int,
  aspect: float,
  low: float,
  high: float,
) -> tuple[int, int] | None:
  """One crop's (height, width) of area low..high pixels, None if none fits.

  `round` is half to even, as C's lrintf in the original.
  """
  shortest = round((low / aspect) ** 0.5)
  tallest = round((high / aspect) ** 0.5)
  if round(tallest * aspect) > width:
    tallest = int((width + 0.5 - 1e-7) / aspect)
    if round(tallest * aspect) > width:
      tallest -= 1
  tallest = min(tallest, height)
  h = min(shortest, tallest)
  if h < tallest:
    h += int(rng.integers(tallest - h + 1))
  w = round(h * aspect)
  # Rounding can leave the allowed areas by one row: try the next size.
  if h * w < low:
    h += 1
    w = round(h * aspect)
  if h * w > high:
    h -= 1
    w = round(h * aspect)
  fits = low <= h * w <= high and 0 < h <= height and 0 < w <= width
  return (h, w) if fits else None


def _complete(image: np.ndarray, name: str) -> np.ndarray:
  if image.dtype != np.uint8 or image.size == 0:
    raise DecodeError(name, f'an array of {image.dtype} {image.shape}')
  if image.ndim == 2:
    image = image[..., None]
  if image.ndim != 3 or image.shape[2] not in (1, 3):
    raise DecodeError(name, f'an array of shape {image.shape}')
  if image.shape[2] == 1:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
  return image


def _jpeg_shape(image: bytes, name: str) -> tuple[int, int] | None:
  """(height, width) of what jpeg.py decodes, much faster than Pillow."""
  shape = jpeg.shape(image)
  if shape and shape[0] * shape[1] > MAX_PIXELS:
    raise DecodeError(name, f'{shape[1]} x {shape[0]} pixels are too many')
  return shape


def _decode_pillow(image: Image.Image, exif_orientation: bool) -> np.ndarray:
  if exif_orientation:
    image = ImageOps.exif_transpose(image)
  if image.mode.startswith('I'):  # 16-bit grey, which convert() would clip
    upper = (np.asarray(image) >> 8).astype(np.uint8)
    return cv2.cvtColor(upper, cv2.COLOR_GRAY2RGB)
  if image.has_transparency_data:
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return np.array(image.convert('RGB'))
