"""The table of a model's layers, printed and in notebooks."""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.models.summary import readable_size


def stack(*names):
    return lamina.Sequential([lamina.Input((3,)), *[layers.Dense(3, name=name) for name in names]], name="stack")


@pytest.fixture
def net():
    """A residual around a nested stack, one layer frozen."""
    lamina.utils.clear_session()  # ops are numbered from the start
    x = lamina.Input((3,), name="x")
    inner = stack("first", "second")
    inner.layers[0].trainable = False
    h = inner(x) + x
    return lamina.Model(x, layers.Dense(1, name="last")(h), name="net")


def text_of(model, **kwargs):
    lines = []
    model.summary(print_fn=lines.append, **kwargs)
    assert len(lines) == 1
    return lines[0]


def test_ops_have_rows_and_say_what_they_are_called_on(net):
    text = text_of(net, line_length=120)
    assert re.search(r"add \(Add\).*\(None, 3\).*0.*stack\[\d\]\[0\]", text)
    assert "Connected to" in text and "Connected to" not in text_of(stack("a", "b"))


@pytest.mark.parametrize("columns", [20, 30, 60, 80, 200])
def test_a_table_fits_the_line(net, columns):
    text = text_of(net, line_length=columns, expand_nested=True, show_trainable=True)
    assert max(map(len, text.splitlines())) <= columns
    assert "net" in text and re.sub(r"\W", "", text).count("Total") == 1


def test_what_a_terminal_is_wide_counts(net, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "34")
    net.summary()
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 34


def test_nested_rows_follow_their_model_and_say_whether_they_train(net):
    text = text_of(net, line_length=120, expand_nested=True, show_trainable=True)
    rows = {m[1]: m[2] for m in re.finditer(r"│\s+(\w+) \(\w+\).*│\s+([YN-])\s+│", text)}
    assert rows == {"x": "-", "stack": "Y", "first": "N", "second": "Y", "add": "-", "last": "Y"}
    assert list(rows) == ["x", "stack", "first", "second", "add", "last"]
    assert "first" not in text_of(net)


def test_a_range_of_layers_is_shown(net):
    text = text_of(net, layer_range=("stack", "add"))
    assert "stack" in text and "add (Add)" in text and "last (Dense)" not in text and "x (Input" not in text
    many = stack("a_1", "a_2", "b_1", "b_2")
    assert [name in text_of(many, layer_range=("b_", "a_2")) for name in ("a_1", "a_2", "b_1", "b_2")] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_range": ("x", "lost")}, "layer_range must be two names of layers, got .* there are x, stack"),
        ({"layer_range": ("x",)}, "layer_range must be two names"),
        ({"layer_range": ("(", "x")}, "layer_range must be two names"),
        ({"positions": [0.5, 0.2, 0.7, 1.0]}, "positions must be 4 numbers that rise"),
        ({"positions": [0.5, 1.0]}, "positions must be 4 numbers that rise"),
        ({"line_length": 5}, "line_length must be an integer of at least 20, got 5"),
    ],
)
def test_arguments_outside_their_domain_are_told(net, arguments, message):
    with pytest.raises(ValueError, match=f'summary of "net": {message}'):
        net.summary(**arguments)


@pytest.mark.parametrize("positions", [[0.5, 0.75, 1.0], [40, 60, 80]])
def test_columns_end_where_positions_say(positions):
    head = text_of(stack("a"), line_length=80, positions=positions).splitlines()[1]
    ends = [i for i, c in enumerate(head) if c in "┳┓"]
    assert np.abs(np.array(ends) - [40, 60, 80]).max() <= 3


def test_names_from_a_file_steer_no_terminal(capsys):
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, name="a\x1b[2J\nb\u202e")], name="\x1b]0;title\x07")
    model.summary()
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\u202e"} and r"\x1b]0;title\x07" in out


def test_names_of_all_alphabets_are_printed_on_a_terminal_of_ascii(monkeypatch, tmp_path):
    model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1, name="слой_层")])
    with open(tmp_path / "out", "w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        model.summary()
    assert "Dense" in (tmp_path / "out").read_text("ascii")
    assert "слой_层 (Dense)" in text_of(model, line_length=80)


def test_layers_of_a_models_own_call_have_shapes_once_it_has_run():
    class Own(lamina.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(3, name="a"), layers.Dense(2, name="b")

        def call(self, x):
            return self.b(self.a(x))

    model = Own()
    assert "0 (unbuilt)" in text_of(model)
    model(np.ones((4, 5)))
    assert "(4, 3)" in text_of(model) and "(4, 2)" in text_of(model)


def test_quiet_logging_logs_the_summary(net, caplog, capsys):
    lamina.utils.disable_interactive_logging()
    try:
        with caplog.at_level("INFO"):
            net.summary()
    finally:
        lamina.utils.enable_interactive_logging()
    assert "Total params" in caplog.text and capsys.readouterr().out == ""


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.open += [] if tag in ("br", "polyline") else [tag]

    def handle_endtag(self, tag):
        if tag != "polyline":
            assert self.open.pop() == tag


def test_a_notebook_gets_a_table_in_which_nothing_runs(net):
    bad = lamina.Sequential(
        [lamina.Input((2,)), layers.Dense(1, name="<script>alert(1)<|script>")], name='"><img src=x>'
    )
    for model in (net, bad, lamina.Sequential()):
        tags = Tags(model._repr_html_())
        assert tags.open == []
        assert set(tags.seen) <= {"details", "summary", "table", "tr", "td", "th", "i", "br", "div"}
    assert "&lt;script&gt;" in bad._repr_html_()
    nested = net._repr_html_()
    assert nested.count("<details") == 2 and "first" in nested and nested.count("<table") == 2


def test_sizes_have_units():
    sizes = [0, 1, 1023, 1024, 1024**2 * 1.5, 1024**5]
    assert list(map(readable_size, sizes)) == ["0.00 B", "1.00 B", "1023.00 B", "1.00 KB", "1.50 MB", "1024.00 TB"]
