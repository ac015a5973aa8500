"""Objects that training calls at its stages: to print, log, save, stop, or change the learning rate."""

from lamina.callbacks.base import Callback, CallbackList, History, ProgbarLogger
from lamina.callbacks.checkpoint import ModelCheckpoint
from lamina.callbacks.control import EarlyStopping, LearningRateScheduler, ReduceLROnPlateau, TerminateOnNaN
from lamina.callbacks.logging import CSVLogger, LambdaCallback
from lamina.callbacks.statistics import LayerStatistics

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LayerStatistics",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
