"""Options of commands, made from classes of settings: flags, a YAML file, the environment, `--set`."""
