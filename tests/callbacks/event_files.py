"""Event files, read by the package `tensorboard`."""

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2
from tensorboard.util import tensor_util


def values_in(folder):
    """(step, tag) -> (plugin, its content, value) of all files of a folder, in the order in which they stand there."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for raw in RawEventFileLoader(str(path)).Load():
            event = event_pb2.Event.FromString(raw)
            for value in event.summary.value:
                assert (event.step, value.tag) not in found
                plugin = value.metadata.plugin_data
                content = tensor_util.make_ndarray(value.tensor)
                found[event.step, value.tag] = plugin.plugin_name, plugin.content, content
    return found
