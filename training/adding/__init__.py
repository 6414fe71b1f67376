"""Adding tasks to a published model, without moving the ones it has."""
