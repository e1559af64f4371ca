"""The cronjob controller: Jobs at the times that a schedule says."""

from .controller import CronJobController

__all__ = ["CronJobController"]
