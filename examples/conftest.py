"""Load acache's pytest plugin. Your own project needs no such file: an installed acache is found by pytest itself."""

pytest_plugins = ("acache.testing.plugin",)
