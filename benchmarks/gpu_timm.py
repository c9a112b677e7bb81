"""timm on a GPU (or, to try it, a CPU), as a worker of gpu.py."""

import sys
import time
from collections.abc import Callable
from typing import Any

import reports
import workers

CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def about() -> dict[str, Any]:
  try:
    import timm  # noqa: F401
    import torch
  except ImportError as error:
    raise workers.WorkerError(
      f'{error.name} is not installed: pip install torch timm'
    ) from error
  if DEVICE == 'cuda' and not torch.cuda.is_available():
    raise workers.WorkerError('torch finds no GPU')
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')
  return {
    'device': torch.cuda.get_device_name() if DEVICE == 'cuda' else 'cpu',
    'versions': reports.versions(('torch', 'timm')),
  }


def training(
  peer: str, resolution: int, batch: int, optimizer: str, compiled: bool
) -> Callable[[], Any]:
  """Returns one step: forward, backward, RMSProp, moving average.

  Channels last, autocast to bfloat16; dropout, drop path and label smoothing
  are on, as on our side.

  Args:
    optimizer: `rmsprop_tf`, timm's, or `rmsprop`, torch's in its `foreach`
      form, whose epsilon is outside the root.
  """
  import timm
  import timm.optim
  import timm.utils
  import torch

  model = timm.create_model(peer, drop_rate=0.2, drop_path_rate=0.2)
  model = model.to(DEVICE, memory_format=torch.channels_last).train()
  arguments = {
    'lr': 0.016,
    'alpha': 0.9,
    'eps': 1e-3,
    'momentum': 0.9,
    'weight_decay': 1e-5,
  }
  if optimizer == 'rmsprop_tf':
    update = timm.optim.RMSpropTF(model.parameters(), **arguments)
  else:
    update = torch.optim.RMSprop(model.parameters(), **arguments, foreach=True)
  average = timm.utils.ModelEmaV3(model, decay=0.9999, use_warmup=True)
  criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
  mean, std = (
    255 * torch.tensor(v, device=DEVICE).reshape(1, 3, 1, 1)
    for v in (MEAN, STD)
  )
  images = torch.randint(
    *(0, 256, (batch, resolution, resolution, 3)),
    dtype=torch.uint8,
    device=DEVICE,
  )
  labels = torch.randint(0, CLASSES, (batch,), device=DEVICE)

  def forward(images, labels):
    # A view: [n, h, w, 3] is [n, 3, h, w] with the channels last.
    with torch.autocast(DEVICE, torch.bfloat16):
      logits = model((images.permute(0, 3, 1, 2).float() - mean) / std)
    return criterion(logits.float(), labels)

  run = torch.compile(forward) if compiled else forward
  count = 0

  def step():
    nonlocal count
    update.zero_grad(set_to_none=True)
    loss = run(images, labels)
    loss.backward()
    update.step()
    average.update(model, step=count)
    count += 1
    return loss

  return step


def inference(
  peer: str, resolution: int, batch: int, mode: str, compiled: bool
) -> Callable[[], Any]:
  """Returns a call of the network in bfloat16, channels last.

  Args:
    mode: of torch.compile; `reduce-overhead` replays CUDA graphs.
  """
  import timm
  import torch

  model = timm.create_model(peer).eval()
  model = model.to(DEVICE, torch.bfloat16, memory_format=torch.channels_last)
  images = torch.randn(batch, 3, resolution, resolution, device=DEVICE)
  images = images.to(torch.bfloat16, memory_format=torch.channels_last)
  run = torch.compile(model, mode=mode) if compiled else model

  def call():
    with torch.inference_mode():
      return run(images)

  return call


def main() -> None:
  calls: list[Callable[[], Any]] = []
  make = {'training': training, 'inference': inference}

  def run(times):
    import torch

    begun = time.perf_counter()
    for _ in range(times):
      calls[-1]()
    if DEVICE == 'cuda':
      torch.cuda.synchronize()
    return time.perf_counter() - begun

  def prepare(kind: str, **case: Any) -> dict:
    begun = time.perf_counter()
    calls.append(make[kind](**case))
    run(3)
    return {'prepare_seconds': round(time.perf_counter() - begun, 1)}

  def measure(seconds: float) -> dict:
    run(2)
    times = max(1, round(seconds / (run(2) / 2)))
    return {'calls': times, 'seconds': run(times)}

  def peak_bytes() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if DEVICE == 'cuda' else None

  workers.serve(
    {
      'about': about,
      'prepare': prepare,
      'measure': measure,
      'peak_bytes': peak_bytes,
    }
  )


DEVICE = sys.argv[1] if len(sys.argv) > 1 else 'cuda'

if __name__ == '__main__':
  main()
