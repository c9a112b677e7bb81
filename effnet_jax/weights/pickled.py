"""Pickles as data: what torch.save writes of plain containers and tensors.

A pickle is a program for a machine with a stack. This machine has the few
instructions that PyTorch's state dicts use and calls nothing: names of classes
and functions stay names, and the caller's table says what an instruction on a
name gives. Any other instruction, or a name that is not in the table, ends in
an error. Python's own unpickler is not involved.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw

# A whole training run takes about one MB: its tensors lie elsewhere. A byte can
# make an object of a hundred, so that larger ones are refused.
MAX_SIZE = 1 << 22
_MAX_NAME = 256
# Where state dicts are saved, torch's default is protocol 2.
_PROTOCOLS = (2, 3)

HOW_TO_SAVE = (
  'in PyTorch, save the weights alone: torch.save(model.state_dict(), PATH), '
  'or as safetensors'
)


@dataclasses.dataclass(frozen=True)
class Name:
  """A class or a function, by name only."""

  text: str


_MARK = object()


class Machine:
  """Runs pickles over the same bytes, one after the other.

  Args:
    data: uint8 [size], the file.
    calls: from the names that may stand in the file to what a call gives, or
      None for those that are never called.
    persistent: gives what a persistent id stands for; never of nested ids.
  """

  def __init__(
    self,
    data: np.ndarray,
    calls: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any],
  ):
    self._data = memoryview(data[:MAX_SIZE])
    self._cut_off = len(data) > MAX_SIZE
    self._calls = calls
    self._persistent = persistent
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}
    self.place = 0  # the next byte to read

  def run(self) -> Any:
    """Returns what the pickle at `place` holds, and moves behind it.

    Raises:
      UserError: it is damaged, or does more than hold weights.
    """
    self._stack, self._memo = [], {}
    while (code := self._take(1)) != b'.':
      instruction = _INSTRUCTIONS.get(code)
      if instruction is None:
        raise UserError(
          f'its pickle has instruction {code.hex()}, which no state dict has: '
          f'fetch the file again; if it is yours, {HOW_TO_SAVE}'
        )
      instruction(self)
    value = self._pop()
    if self._stack:
      raise raw.damaged('its pickle leaves something behind')
    return value

  def _take(self, size: int) -> bytes:
    end = self.place + size
    if end > len(self._data):
      if self._cut_off:
        raise UserError(
          f'its pickle is larger than {MAX_SIZE} bytes: {HOW_TO_SAVE}'
        )
      raise raw.damaged('its pickle does not end')
    taken = self._data[self.place : end].tobytes()
    self.place = end
    return taken

  def _number(self, layout: str) -> Any:
    return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

  def _line(self) -> str:
    end = self.place
    while self._data[end : end + 1] != b'\n':
      end += 1
      if end >= len(self._data) or end > self.place + _MAX_NAME:
        raise raw.damaged('a name in its pickle does not end')
    line = self._take(end - self.place).decode()
    self.place += 1
    return line

  def _pop(self) -> Any:
    if not self._stack or self._stack[-1] is _MARK:
      raise raw.damaged('its pickle takes more than it has')
    return self._stack.pop()

  def _pop_to_mark(self) -> list[Any]:
    items = []
    while self._stack and self._stack[-1] is not _MARK:
      items.append(self._stack.pop())
    if not self._stack:
      raise raw.damaged('its pickle takes more than it has')
    self._stack.pop()
    return items[::-1]

  def _top(self, kind: type) -> Any:
    top = self._stack[-1] if self._stack else _MARK
    if top is _MARK or not isinstance(top, kind):
      raise raw.damaged(f'its pickle fills what is no {kind.__name__}')
    return top

  def _push_protocol(self) -> None:
    protocol = self._take(1)[0]
    if protocol not in _PROTOCOLS:
      raise UserError(
        f'its pickle is of protocol {protocol}, not 2: save it again without '
        'pickle_protocol, or as safetensors'
      )

  def _push_name(self) -> None:
    text = f'{self._line()}.{self._line()}'
    if text not in self._calls:
      raise UserError(
        f'it asks for {raw.quoted(text)}, which is no part of weights, and was '
        f'not run: do not trust it; or, if it is yours, {HOW_TO_SAVE}'
      )
    self._stack.append(Name(text))

  def _call(self) -> None:
    arguments, name = self._pop(), self._pop()
    call = self._calls[name.text] if isinstance(name, Name) else None
    if call is None or not isinstance(arguments, tuple):
      raise UserError(
        f'its pickle calls what is nothing to call: {HOW_TO_SAVE}'
      )
    self._stack.append(call(*arguments))

  def _build(self) -> None:
    # The attributes of an object (`_metadata` of a state dict): not weights.
    self._pop()
    self._top(dict)

  def _set_items(self, items: list[Any]) -> None:
    target = self._top(dict)
    if len(items) % 2:
      raise raw.damaged('a dict in its pickle lacks a value')
    for key, value in zip(items[::2], items[1::2], strict=True):
      # Others have no place here, and hashing what is nested may not end well.
      if not isinstance(key, str | int):
        raise UserError(
          f'a dict in it has keys of type {type(key).__name__}: {HOW_TO_SAVE}'
        )
      target[key] = value

  def _append(self, items: list[Any]) -> None:
    self._top(list).extend(items)

  def _remember(self, index: int) -> None:
    self._memo[index] = self._top(object)

  def _recall(self, index: int) -> None:
    if index not in self._memo:
      raise raw.damaged('its pickle recalls what it never stored')
    self._stack.append(self._memo[index])

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _push_tuple(self, length: int) -> None:
    items = [self._pop() for _ in range(length)]
    self._stack.append(tuple(reversed(items)))

  def _pair(self) -> list[Any]:
    value, key = self._pop(), self._pop()
    return [key, value]

  def _text(self, layout: str) -> str:
    return self._take(self._number(layout)).decode('utf-8', 'surrogatepass')


# Names as in Python's pickletools.
_INSTRUCTIONS: dict[bytes, Callable[[Machine], None]] = {
  b'\x80': Machine._push_protocol,  # PROTO
  b'c': Machine._push_name,  # GLOBAL
  b'Q': lambda m: m._push(m._persistent(m._pop())),  # BINPERSID
  b'R': Machine._call,  # REDUCE
  b'\x81': Machine._call,  # NEWOBJ
  b'b': Machine._build,  # BUILD
  b'(': lambda m: m._push(_MARK),  # MARK
  b'}': lambda m: m._push({}),  # EMPTY_DICT
  b'u': lambda m: m._set_items(m._pop_to_mark()),  # SETITEMS
  b's': lambda m: m._set_items(m._pair()),  # SETITEM
  b']': lambda m: m._push([]),  # EMPTY_LIST
  b'e': lambda m: m._append(m._pop_to_mark()),  # APPENDS
  b'a': lambda m: m._append([m._pop()]),  # APPEND
  b')': lambda m: m._push(()),  # EMPTY_TUPLE
  b't': lambda m: m._push(tuple(m._pop_to_mark())),  # TUPLE
  b'\x85': lambda m: m._push_tuple(1),  # TUPLE1
  b'\x86': lambda m: m._push_tuple(2),  # TUPLE2
  b'\x87': lambda m: m._push_tuple(3),  # TUPLE3
  b'q': lambda m: m._remember(m._number('<B')),  # BINPUT
  b'r': lambda m: m._remember(m._number('<I')),  # LONG_BINPUT
  b'h': lambda m: m._recall(m._number('<B')),  # BINGET
  b'j': lambda m: m._recall(m._number('<I')),  # LONG_BINGET
  b'X': lambda m: m._push(m._text('<I')),  # BINUNICODE
  b'J': lambda m: m._push(m._number('<i')),  # BININT
  b'K': lambda m: m._push(m._number('<B')),  # BININT1
  b'M': lambda m: m._push(m._number('<H')),  # BININT2
  b'\x8a': lambda m: m._push(  # LONG1
    int.from_bytes(m._take(m._number('<B')), 'little', signed=True)
  ),
  b'G': lambda m: m._push(m._number('>d')),  # BINFLOAT
  b'N': lambda m: m._push(None),  # NONE
  b'\x88': lambda m: m._push(True),  # NEWTRUE
  b'\x89': lambda m: m._push(False),  # NEWFALSE
}
