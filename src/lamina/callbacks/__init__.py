"""Objects that training calls at its stages: to print, log, save, stop, or change the learning rate."""

from lamina.callbacks.averages import SwapEMAWeights
from lamina.callbacks.backup import BackupAndRestore
from lamina.callbacks.base import Callback, History, ProgbarLogger
from lamina.callbacks.checkpoint import ModelCheckpoint
from lamina.callbacks.control import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN
from lamina.callbacks.listeners import CallbackList
from lamina.callbacks.logging import CSVLogger, LambdaCallback, RemoteMonitor
from lamina.callbacks.orbax import OrbaxCheckpoint
from lamina.callbacks.statistics import LayerStatistics
from lamina.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback",
    "LayerStatistics", "LearningRateScheduler", "ModelCheckpoint", "OrbaxCheckpoint", "ProgbarLogger",
    "ReduceLROnPlateau", "RemoteMonitor", "SwapEMAWeights", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
