"""The optimizers under the names that older programs give them: here they are those of now."""

from lamina.optimizers.adam import Adam
from lamina.optimizers.adaptive import Adagrad, Ftrl, RMSprop
from lamina.optimizers.momentum import SGD
from lamina.optimizers.optimizer import Optimizer

__all__ = ["SGD", "Adagrad", "Adam", "Ftrl", "Optimizer", "RMSprop"]
