"""What is measured, as data: a workload is a model, its hand-written PyTorch twin, and synthetic rows.

A model is made from a Keras-like module `k`, a twin from the module `torch`: these files import neither, so
that each process pays for, and times, only the library that it runs.
"""

from .dense import DENSE
from .images import IMAGES
from .texts import TEXTS

WORKLOADS = DENSE | IMAGES | TEXTS
