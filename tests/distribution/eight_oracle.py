"""`lamina.distribution` tells what `keras.distribution` tells."""

import keras
import numpy as np
import pytest

import lamina

BOTH = [lamina.distribution, keras.distribution]


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    for each in BOTH:
        each.set_distribution(None)


def grid(d, shape=(2, 4), names=("batch", "model")):
    return d.DeviceMesh(shape, list(names), d.list_devices())


def layouts(d):
    found = d.LayoutMap(grid(d))
    found["dense.*/kernel"] = (None, "model")
    found["dense.*/bias"] = ("model",)
    found["out/kernel"] = d.TensorLayout(["model", None], grid(d))
    return found


def with_weights(d, layers, plan):
    d.set_distribution(plan)
    layer = layers.Dense(8, name="dense_3")
    layer.build((None, 4))
    return [tuple(v.value.sharding.spec) for v in layer.weights]


TOLD = {
    "devices": lambda d: (d.list_devices(), d.list_devices("cpu"), d.get_device_count(), d.get_device_count("cpu")),
    "mesh": lambda d: (grid(d).shape, grid(d).axis_names, grid(d).devices.tolist(), repr(grid(d))),
    "one axis": lambda d: d.DeviceMesh((8,), ["x"]).devices.tolist(),
    "layout": lambda d: (repr(d.TensorLayout(["batch", None], grid(d))), d.TensorLayout(("model",)).device_mesh),
    "map": lambda d: (
        list(layouts(d)),
        len(layouts(d)),
        layouts(d)["dense_1/kernel"].axes,
        layouts(d)["dense/bias"].axes,
    ),
    "map misses": lambda d: (layouts(d)["a/dense/kernel"], layouts(d)["dense/kernel/x"], layouts(d).get("nothing")),
    "map without": lambda d: (m := layouts(d), m.pop("out/kernel"), list(m))[2],
    "data": lambda d: (
        repr(d.DataParallel()),
        d.DataParallel().batch_dim_name,
        d.DataParallel().get_data_layout((8, 3)).axes,
    ),
    "data on some": lambda d: d.DataParallel(devices=["cpu:1", "cpu:3"]).device_mesh.devices.tolist(),
    "rows": lambda d: repr(d.ModelParallel(layout_map=layouts(d), batch_dim_name="model").get_data_layout((8, 3, 2))),
    "replicas": lambda d: [p.num_model_replicas for p in (d.DataParallel(), d.ModelParallel(layout_map=layouts(d)))],
    "processes": lambda d: (d.DataParallel().num_processes, d.DataParallel().data_shard_id),
    "output": lambda d: d.ModelParallel(layout_map=layouts(d)).get_tensor_layout("dense/output"),
    "auto": lambda d: [d.DataParallel(auto_shard_dataset=each).auto_shard_dataset for each in (True, False)],
    "none": lambda d: (d.set_distribution(None), d.distribution()),
    "spread": lambda d: tuple(
        d.distribute_tensor(np.ones((8, 4)), d.TensorLayout(["batch", "model"], grid(d))).sharding.spec
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told(name):
    ours, theirs = map(TOLD[name], BOTH)
    assert ours == theirs


WRONG = {
    "names": lambda d: d.DeviceMesh((2, 4), ["batch"], d.list_devices()),
    "places": lambda d: d.DeviceMesh((2, 3), ["a", "b"], d.list_devices()),
    "no axis": lambda d: d.DeviceMesh(None, ["a"]),
    "axis": lambda d: d.TensorLayout(["other"], grid(d)),
    "mesh twice": lambda d: setattr(d.TensorLayout(["batch"], grid(d)), "device_mesh", grid(d)),
    "key twice": lambda d: layouts(d).__setitem__("out/kernel", ("model",)),
    "no layout": lambda d: layouts(d).__setitem__("other", 5),
    "two match": lambda d: (m := layouts(d), m.__setitem__("dense_1/.*", ("model",)), m["dense_1/kernel"]),
    "no map": lambda d: d.ModelParallel(),
    "no mesh": lambda d: d.distribute_tensor(np.ones((8, 4)), d.TensorLayout(["batch", "model"])),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name):
    for each in BOTH:
        with pytest.raises(ValueError):
            WRONG[name](each)


@pytest.mark.parametrize("make", [lambda d: d.DataParallel(), lambda d: d.ModelParallel(layout_map=layouts(d))])
def test_weights_are_made_where_they_lie(make):
    def trimmed(specs):
        return [[axis for axis in spec] if any(spec) else [] for spec in specs]

    ours = trimmed(with_weights(lamina.distribution, lamina.layers, make(lamina.distribution)))
    theirs = trimmed(with_weights(keras.distribution, keras.layers, make(keras.distribution)))
    assert ours == theirs


def test_a_scope_ends():
    for each in BOTH:
        plan = each.DataParallel()
        with plan.scope():
            assert each.distribution() is plan
        assert each.distribution() is None


def test_rows_go_over_the_first_axis_of_a_mesh():
    assert lamina.distribution.DataParallel(grid(lamina.distribution)).batch_dim_name == "batch"  # Keras fails here


def test_a_layout_of_its_own_goes_before_the_plan_s():
    for d, library in zip(BOTH, (lamina, keras)):
        layout = d.TensorLayout(["batch", None], grid(d))
        variable = library.Variable(np.ones((8, 4)), layout=layout)
        assert d.ModelParallel(layout_map=layouts(d)).get_variable_layout(variable) is layout


def test_seeds_that_a_file_lacks_are_drawn(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)]).save(tmp_path / "model.keras")
    lamina.distribution.set_distribution("data")
    model = lamina.saving.load_model(tmp_path / "model.keras")
    assert all(np.any(v.numpy()) for v in model.variables) and len(model.variables) == 1
