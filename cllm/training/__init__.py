"""Training: settings, schedules, the trainer, validation, checkpoints and the folder of a run."""
