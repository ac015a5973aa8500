"""`lamina.as_keras()`, each in a process of its own: what `import keras` means there."""

import inspect
import json
import subprocess
import sys

import keras
import pytest

MISSING = [
    ("from keras.layers import TFSMLayer", "lamina.layers.TFSMLayer will not come: it runs a SavedModel"),
    ("from keras.layers import Densee", "'lamina.layers' has no attribute 'Densee'; did you mean 'Dense'?"),
    ("from keras.src.utils import nothing", "keras.src.utils.nothing: module 'lamina.utils' has no attribute"),
    ("from keras.src.trainers import nothing", "keras.src.trainers.nothing: module 'lamina' has no attribute"),
    ("import keras.nothing", "keras.nothing: module 'lamina' has no attribute 'nothing'"),
]
START = "import lamina\nlamina.as_keras()\n"


def run(program, start=START, given=""):
    """What a program prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", start + program], input=given, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


NAMES = """
import importlib.metadata, importlib.util, pickle, sys
before = set(sys.modules)
assert importlib.util.find_spec("keras") is not None and importlib.metadata.version("keras") == "3.15.1"
import keras
from keras import ops
from keras.layers import Dense
from keras.optimizers.schedules import ExponentialDecay
from keras.src.activations import ALL_OBJECTS_DICT
from keras.src.backend import get_keras_mask, convert_to_tensor
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.layers.core.dense import Dense as Inner
from keras.src.models.functional import Functional
from keras.src.saving import saving_lib, serialization_lib
import keras.src.backend.jax.random as keys
assert keras.__version__ == keras.version() == "3.15.1" and lamina.__version__ != "3.15.1"
assert keras.backend.backend() == keras.config.backend() == "jax"
assert Dense is Inner is keras.layers.Dense is lamina.layers.Dense and ops.exp is lamina.ops.exp
assert KerasTensor is keras.KerasTensor is lamina.KerasTensor and keras.DTypePolicy is lamina.DTypePolicy
assert saving_lib.save_model is keras.saving.save_model and serialization_lib.in_safe_mode() is False
seen = []
keras.layers.Lambda(lambda x: seen.append(in_symbolic_scope()) or x)(keras.Input((2,)))
with keras.SymbolicScope():
    seen.append(in_symbolic_scope())
assert all(seen) and len(seen) > 1 and not in_symbolic_scope() and StatelessScope is keras.StatelessScope
assert issubclass(Functional, keras.Model) and keys.jax_draw_seed(3).tolist() == [3, 0]
masked = keras.layers.Masking()(keras.Input((4, 2)))
assert get_keras_mask(masked).shape == masked._keras_mask.shape == (None, 4) and get_keras_mask(ops.ones(3)) is None
ALL_OBJECTS_DICT["doubled"] = doubled = lambda x: 2 * x
assert ALL_OBJECTS_DICT["relu"] is keras.activations.relu and keras.activations.get("doubled") is doubled
assert not hasattr(keras.backend, "cast") and not hasattr(keras.layers, "core")
assert keras.distribution.__name__ == "keras.distribution" and pickle.loads(pickle.dumps(keras.layers)) is keras.layers
everything = {}
exec("from keras import *", everything)
assert everything["layers"].Dense is Dense and everything["Model"] is keras.Model

@keras.saving.register_keras_serializable("packages")
class Twice(keras.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.dense = Dense(units)
    def call(self, x):
        return 2 * self.dense(x)
model = Twice()
assert model(ops.ones((1, 3))).shape == (1, 2) and isinstance(model.dense, keras.Layer)
assert not any(name.startswith("tensorflow") or name == "keras.src.engine" for name in set(sys.modules) - before)
print(len([name for name in sys.modules if name.startswith("keras")]) > 10)
"""


def test_keras_is_lamina_by_all_its_names():
    assert run(NAMES) == ["True"]


def homes(module, path="keras"):
    """Where Keras keeps its public classes and functions: (file, name, public path)."""
    for name, thing in vars(module).items():
        inner = f"{path}.{name}"
        if inspect.ismodule(thing) and thing.__name__ == inner and name not in ("src", "_tf_keras", "_legacy"):
            yield from homes(thing, inner)
        elif inspect.isroutine(thing) or inspect.isclass(thing):
            file = getattr(thing, "__module__", None) or ""
            if file.startswith("keras.src") and thing.__name__ == name:
                yield file, name, inner


LACKING = ("keras.src.applications.", "keras.src.legacy.")  # no such files here

HOMES = """
import importlib, json, sys
from lamina.core.absent import not_there
for file, name, path in json.load(sys.stdin):
    try:
        found = hasattr(importlib.import_module(file), name)
    except ImportError:
        found = False
    if not found and path not in not_there():
        print(path, "of", file)
"""


def test_what_is_public_is_found_in_the_file_where_keras_keeps_it():
    known = sorted(home for home in set(homes(keras)) if not home[0].startswith(LACKING))
    assert len(known) > 900 and run(HOMES, given=json.dumps(known)) == []


def test_a_missing_name_says_so():
    tries = "".join(
        f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)\n" for statement, _ in MISSING
    )
    for line, (statement, said) in zip(run(tries), MISSING, strict=True):
        assert said in line, statement


def test_a_missing_attribute_says_so_and_what_is_only_named_says_so_when_it_is_used():
    printed = run(
        "from lamina.core.absent import not_there\n"
        "not_there().update({'keras.gone.NetB0': '', 'keras.gone.Other': ''})\n"  # a namespace that lamina lacks
        "import keras\nfrom keras import gone\nfile = keras.gone.net.NetB0\n"
        "for ask in (lambda: keras.layers.Densee, lambda: gone.Other, file):\n"
        "    try:\n        ask()\n    except AttributeError as error:\n        print(error)\n"
    )
    assert printed == [
        "module 'lamina.layers' has no attribute 'Densee'; did you mean 'Dense'?",
        "lamina.gone.Other is not there yet; Keras has it.",
        "lamina.gone.NetB0 is not there yet; Keras has it.",
    ]


def test_it_ends_with_its_block_and_leaves_no_trace():
    printed = run(
        "import os, sys\nos.environ['KERAS_BACKEND'] = 'torch'\n"
        "with lamina.as_keras():\n"
        "    with lamina.as_keras():\n        from keras.layers import Dense\n"
        "    import keras\n    print(keras.layers.Dense is Dense, os.environ['KERAS_BACKEND'])\n"
        "print('keras' in sys.modules, os.environ['KERAS_BACKEND'], Dense is lamina.layers.Dense)\n"
        "lamina.as_keras()\nimport keras\nlamina.as_keras(False)\nprint('keras' in sys.modules)\n",
        start="import lamina\n",
    )
    assert printed == ["True jax", "False torch True", "False"]


@pytest.mark.parametrize(
    ("program", "who"),
    [("import keras\n", "the program"), ("import types\nsys.modules['user'] = user = types.ModuleType('user')\n"
     "exec('from keras.layers import Dense', user.__dict__)\n", "user")],
)  # fmt: skip
def test_it_must_come_before_keras_and_says_who_imported_that(program, who):
    fake = (
        "import sys, tempfile, pathlib\nfolder = pathlib.Path(tempfile.mkdtemp(), 'keras')\nfolder.mkdir()\n"
        "(folder / '__init__.py').write_text('__version__ = \"3.0.0\"')\n"
        "(folder / 'layers.py').write_text('class Dense: pass')\nsys.path.insert(0, str(folder.parent))\n"
    )
    end = "import lamina\ntry:\n    lamina.as_keras()\nexcept RuntimeError as error:\n    print(error)\n"
    assert run(program + end, start=fake) == [
        f"as_keras: must be called before anything imports keras, got keras 3.0.0, which {who} imported; "
        "call lamina.as_keras() above that import."
    ]


def test_it_is_never_active_by_itself():
    code = "import sys, lamina\nprint('keras' in sys.modules, any('lamina' in str(each) for each in sys.meta_path))"
    assert run(code, start="") == ["False False"]
