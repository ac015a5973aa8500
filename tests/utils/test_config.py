"""`utils.Config` and `utils.get_source_inputs`, beside Keras."""

import copy
import pickle

import pytest

import lamina
from tests.programs.both import same_in_both


def kind_of_error(function):
    try:
        return str(function())
    except Exception as error:
        return type(error).__name__


def test_a_config_does_what_it_does_in_keras():
    def program(keras):
        config = keras.utils.Config(b=2, a=1)
        seen = [list(config), list(config.keys()), list(config.items()), repr(config), len(config), "a" in config]
        seen += [config.to_json(), config.as_dict(), config.get("z", 3), config.get("z"), config.pop("a"), config.b]
        config.x, config["y"] = 5, 6
        config.update({"q": 1}, w=2)
        del config["x"]
        config.freeze()
        changes = [
            lambda: setattr(config, "x", 1), lambda: config.update(a=1), lambda: config.pop("y"),
            lambda: config.__delitem__("y"), lambda: config.__setitem__("y", 1),
        ]  # fmt: skip
        seen += [config.frozen, [kind_of_error(change) for change in changes], config.as_dict()]
        config.unfreeze()
        config.x = 1
        seen += [
            dict(config),
            list(config.values()),
            kind_of_error(lambda: config.zz),
            kind_of_error(lambda: config["zz"]),
        ]
        return seen + [repr(copy.deepcopy(config)), repr(pickle.loads(pickle.dumps(config))), config.frozen]

    same_in_both(program)


def test_errors_name_what_was_meant():
    config = lamina.utils.Config(learning_rate=0.1)
    with pytest.raises(AttributeError, match=r"Config: learning_rat must be set .* Did you mean 'learning_rate'\?"):
        config.learning_rat  # noqa: B018
    config.freeze()
    with pytest.raises(ValueError, match=r"must not be frozen when 'seed' is changed; call unfreeze\(\)\."):
        config.seed = 1
    assert config == lamina.utils.Config(learning_rate=0.1)


def test_a_config_is_saved_with_the_layer_that_has_it(tmp_path):
    @lamina.saving.register_keras_serializable("tests")
    class Scaled(lamina.layers.Layer):
        def __init__(self, config, **kwargs):
            super().__init__(**kwargs)
            self.config = config

        def call(self, x):
            return x * self.config.factor

    model = lamina.Sequential([lamina.Input((2,)), Scaled(lamina.utils.Config(factor=2.0))])
    model.save(tmp_path / "scaled.keras")
    again = lamina.saving.load_model(tmp_path / "scaled.keras").layers[-1].config
    assert isinstance(again, lamina.utils.Config) and again.factor == 2.0


def test_source_inputs():
    def program(keras):
        a, b, c = (keras.Input((3,), name=name) for name in "abc")
        x = keras.layers.Dense(3)(a)
        both = keras.layers.Concatenate()([x, b, a])
        deep = both
        for _ in range(30):
            deep = deep + 1.0
        found = keras.utils.get_source_inputs
        return [[t.name for t in found(tensor)] for tensor in (a, x, both, deep, c * x)], found(3)

    same_in_both(program)
