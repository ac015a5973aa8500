"""`keras.ops`: functions on arrays, variables and symbolic tensors, flat here and by kind in the modules."""
# ruff: noqa: F403

from lamina.ops import control, crossentropy, ctc, image, linalg, math, nn, numpy
from lamina.ops.control import *
from lamina.ops.linalg import *
from lamina.ops.math import *
from lamina.ops.nn import *
from lamina.ops.numpy import *

# The stars bring what the modules import as well; only the ops and the modules stay.
_MODULES = (control, crossentropy, ctc, image, linalg, math, nn, numpy)
for _name, _value in list(globals().items()):
    _owner = getattr(_value, "__module__", getattr(_value, "__name__", ""))
    if _name[0] != "_" and _owner not in {"lamina.ops", *(module.__name__ for module in _MODULES)}:
        del globals()[_name]
