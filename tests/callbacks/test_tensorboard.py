"""`TensorBoard` and its files, read back by the package `tensorboard`."""

import io
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.graph import keras_util

import lamina as keras
from lamina.callbacks import TensorBoard
from lamina.callbacks.events import EventWriter, buckets_of, masked_crc
from tests.callbacks.event_files import values_in

X = np.random.default_rng(0).normal(size=(22, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def fit(folder, epochs=2, callbacks=(), model=None, **options):
    if model is None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")])
        model.compile("sgd", "mse", metrics=["mae"])
    board = TensorBoard(folder, **options)
    data = {"batch_size": 5, "validation_data": (X, Y)}
    return model, model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[board, *callbacks], **data)


def test_the_checksum_is_that_of_records():
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32


def test_epochs(tmp_path):
    _, history = fit(tmp_path)
    train, held_out = values_in(tmp_path / "train"), values_in(tmp_path / "validation")
    assert train[1, "epoch_mae"] == ("scalars", b"", np.float32(history.history["mae"][1]))
    assert held_out[1, "epoch_mae"][2] == np.float32(history.history["val_mae"][1])
    assert held_out[10, "evaluation_loss_vs_iterations"][2] == np.float32(history.history["val_loss"][1])
    assert {tag for _, tag in train} == {"keras", "epoch_loss", "epoch_mae", "epoch_learning_rate"}


@pytest.mark.parametrize(("frequency", "steps"), [("batch", range(1, 11)), (3, (3, 6, 9))])
def test_batches(frequency, steps, tmp_path):
    fit(tmp_path, update_freq=frequency, write_steps_per_second=True)
    train = values_in(tmp_path / "train")
    assert [step for step, tag in train if tag == "batch_loss"] == list(steps)
    assert all(train[step, "batch_steps_per_second"][2] > 0 for step in steps)


@pytest.mark.parametrize(
    ("options", "alone"), [({}, False), ({"update_freq": 1}, False), ({"profile_batch": (3, 4)}, True)]
)
def test_a_step_is_a_launch_of_its_own_only_to_be_profiled(options, alone, tmp_path):
    board = TensorBoard(tmp_path, **options)
    limits = keras.callbacks.CallbackList([board])
    board._batch = 2
    assert not limits.needs_every_batch("train") and limits.launch_limit("train") == (2 if alone else None)


def test_the_graph_is_one_that_tensorboard_draws(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Add(name="sum")([keras.layers.Dense(1, name=n)(inputs) for n in "ab"]))
    model.compile("sgd", "mse")
    fit(tmp_path, model=model)
    plugin, content, text = values_in(tmp_path / "train")[0, "keras"]
    assert (plugin, content) == ("graph_keras_model", b"1")
    graph = keras_util.keras_model_to_graph_def(json.loads(text.item()))
    nodes = {node.name.split("/")[-1]: [name.split("/")[-1] for name in node.input] for node in graph.node}
    assert nodes["sum"] == ["a", "b"]


def test_histograms_and_images_of_weights(tmp_path):
    model, _ = fit(tmp_path, histogram_freq=1, write_images=True)
    train, kernel = values_in(tmp_path / "train"), model.layers[0].kernel
    plugin, _, buckets = train[1, f"{kernel.path}/histogram"]
    assert plugin == "histograms" and buckets.shape == (30, 3) and buckets[:, 2].sum() == 12
    plugin, _, (width, height, image) = train[1, f"{kernel.path}/image"]
    assert (plugin, width, height) == ("images", b"4", b"3")
    pixels = np.asarray(Image.open(io.BytesIO(image)))
    assert np.array_equal(pixels, np.clip(kernel.numpy().T * 255.5, 0, 255).astype("uint8"))


def test_buckets():
    assert buckets_of([np.nan, np.inf], 3).tolist() == [[0, 0, 0]] * 3
    assert buckets_of([2.0, 2.0], 2).tolist() == [[2, 2, 0], [2, 2, 2]]
    assert buckets_of([0, 1, 2, 3], 3).tolist() == [[0, 1, 1], [1, 2, 1], [2, 3, 2]]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_and_texts(channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, channels), np.uint8)
    writer = EventWriter(tmp_path / "new")
    writer.image("i", images, 2)
    writer.text("t", "**ünder**", 3)
    writer.flush()
    found = values_in(tmp_path / "new")
    width, height, *pictures = found[2, "i"][2]
    assert (width, height, len(pictures)) == (b"2", b"3", 3)
    shown = [np.asarray(Image.open(io.BytesIO(picture))).reshape(3, 2, channels) for picture in pictures]
    assert np.array_equal(shown, images[:3])
    assert found[3, "t"][2].item().decode() == "**ünder**"


def test_a_writer_goes_on_where_an_earlier_one_was(tmp_path):
    first = EventWriter(tmp_path)
    first.scalar("a", 1.0, -1)
    place = first.place()
    first.scalar("lost", 2.0, 1)
    first.flush()
    again = EventWriter(tmp_path, goes_on=place)
    again.scalar("b", 3.0, 2**40)
    again.flush()
    assert list(values_in(tmp_path)) == [(-1, "a"), (2**40, "b")]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="TensorBoard: nothing more is logged") as warned:
        _, history = fit(tmp_path / "file", epochs=3, update_freq=1, histogram_freq=1)
    assert len(history.epoch) == 3 and len(warned) == 2  # the folders of training and of validation


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full, which is always full")
def test_a_full_disk(tmp_path):
    writer = EventWriter(tmp_path)
    (tmp_path / writer.place()[0]).symlink_to("/dev/full")
    writer.scalar("a", 1.0, 1)
    with pytest.warns(UserWarning, match="No space left"):
        writer.flush()
    writer.scalar("a", 1.0, 2)
    writer.flush()


def test_a_profile(tmp_path):
    fit(tmp_path, profile_batch=(2, 3))
    assert list((tmp_path / "train" / "plugins" / "profile").glob("*/*.xplane.pb"))


def test_a_profiler_that_runs_already(tmp_path):
    with jax.profiler.trace(str(tmp_path / "mine")), pytest.warns(UserWarning, match="nothing is profiled"):
        fit(tmp_path / "logs", profile_batch=2)


def embedding_model():
    layers = [keras.layers.Embedding(6, 2, name="words"), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    return model


def test_embeddings(tmp_path):
    model = embedding_model()
    board = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "labels.tsv"})
    model.fit(abs(X).astype(int), Y, epochs=2, verbose=0, callbacks=[board])
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert 'metadata_path: "labels.tsv"' in config and 'tensor_path: "train/words.tsv"' in config
    assert np.allclose(np.loadtxt(tmp_path / "train" / "words.tsv"), model.layers[0].embeddings.numpy(), atol=1e-4)
    assert (tmp_path / "train" / "keras_embedding.ckpt-1.weights.h5").exists()
    with pytest.raises(ValueError, match=r"embeddings_metadata must be of the model's embeddings \(words\).*'odd'"):
        TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"odd": "a"}).set_model(model)


@pytest.mark.parametrize(
    "options",
    [{"update_freq": 0}, {"update_freq": "often"}, {"profile_batch": (3, 2)}, {"profile_batch": "a"}, {"log_dir": 3}],
)
def test_arguments(options):
    with pytest.raises(ValueError, match=f"TensorBoard: {next(iter(options))} must"):
        TensorBoard(**options)


@pytest.mark.parametrize("given", ["2,4", (2, 4), [2, 4]])
def test_the_batches_to_profile_in_words(given):
    assert TensorBoard(profile_batch=given)._profiled == [2, 4]
