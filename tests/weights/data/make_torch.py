"""Writes the torch files beside this script; run with torch 2.13.0 (CPU).

python tests/weights/data/make_torch.py
"""

import argparse
import collections
from pathlib import Path

import torch

FOLDER = Path(__file__).parent


def tensors():
  """What a file may hold; test_torch_file.py has the values in numpy."""
  count = torch.arange(24, dtype=torch.float32)
  return collections.OrderedDict(
    parameter=torch.nn.Parameter(count.reshape(2, 3, 2, 2).clone()),
    transposed=count[:6].clone().reshape(2, 3).t(),
    every_other=count[:10].clone()[2:8:2],
    channels_last=count.reshape(1, 2, 3, 4).contiguous(
      memory_format=torch.channels_last
    ),
    shared_row=count.reshape(4, 6)[1],
    shared_column=count.reshape(4, 6)[:, 1],
    half=(count[:5] / 4).half(),
    bfloat16=(count[:5] / 4).bfloat16().reshape(1, 5),
    double=count[:3].double() / 3,
    **{
      name: torch.arange(3).to(getattr(torch, name))
      for name in ('int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
    },
    scalar=torch.tensor(7),
    empty=torch.zeros(0, 3),
  )


def training():
  """What timm's and torchvision's training scripts save, in small."""
  network = torch.nn.Linear(2, 3)
  with torch.no_grad():
    network.weight.copy_(torch.arange(6).reshape(3, 2))
    network.bias.copy_(torch.arange(3))
  average = torch.optim.swa_utils.AveragedModel(network)
  wrapped = torch.nn.DataParallel(network)
  optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.25, momentum=0.9)
  wrapped(torch.ones(1, 2)).sum().backward()
  optimizer.step()
  return {
    'epoch': 3,
    'arch': 'tf_efficientnet_b0',
    'state_dict': wrapped.state_dict(),
    'model_ema': average.state_dict(),
    'optimizer': optimizer.state_dict(),
    'version': 2,
    'args': argparse.Namespace(lr=0.25, model='tf_efficientnet_b0', amp=False),
    'metric': torch.tensor(75.1),
  }


if __name__ == '__main__':
  for name, objects in (('tensors', tensors()), ('training', training())):
    torch.save(objects, FOLDER / f'{name}.zip.pth')
    torch.save(
      objects,
      FOLDER / f'{name}.legacy.pth',
      _use_new_zipfile_serialization=False,
    )
