"""Configuration: the settings of the process, and switches that a rollout turns on by version."""

from acache.config.environment import Settings, cache_directory, on_change, override, settings
from acache.config.rollout import (
    EnvironmentRollout,
    JsonFileRollout,
    RolloutSource,
    set_rollout_source,
    versioned_config,
)

__all__ = (
    "EnvironmentRollout",
    "JsonFileRollout",
    "RolloutSource",
    "Settings",
    "cache_directory",
    "on_change",
    "override",
    "set_rollout_source",
    "settings",
    "versioned_config",
)
