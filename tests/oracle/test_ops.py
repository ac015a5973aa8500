"""Every op against Keras: signature, values, dtypes, and the class that a saved graph names."""

import inspect
import json
from pathlib import Path
