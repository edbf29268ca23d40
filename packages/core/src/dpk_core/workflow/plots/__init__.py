"""Plots of a training, of trajectories and of errors, written to image files."""

from dpk_core.workflow.plots.errors import plot_errors
from dpk_core.workflow.plots.training import plot_training, read_log
from dpk_core.workflow.plots.trajectories import plot_trajectories

__all__ = ["plot_errors", "plot_training", "plot_trajectories", "read_log"]
